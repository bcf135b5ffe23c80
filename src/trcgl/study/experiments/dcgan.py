"""Generative augmentation by a conditional DCGAN, a baseline for the images of the diffusion model."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from trcgl.core.errors import DataError, Diverged
from trcgl.core.generator_recipe import FitRecipe
from trcgl.core.randomness import derive_seed, generator
from trcgl.core.recipe import Recipe
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import open_synthetic, read_provenance
from trcgl.generate.fitting import fit_stage
from trcgl.generate.training_rows import loader, training_rows
from trcgl.model.tensors import at_size, to_unit
from trcgl.study.training_variants import finished, write_folder
from trcgl.study.worker import held
from trcgl.training.batches import SplitRows
from trcgl.training.launch import launched
from trcgl.training.sampling import class_balanced
from trcgl.training.stop import stop_signals
from trcgl.training.trainer import on_gpu

SMALLEST, LARGEST = 32, 256
"""Sides of the images that a DCGAN can sample, in pixels."""
LOG_EVERY = 10
"""Steps between two lines of the log."""
Images = Float[Tensor, "batch 1 side side"]
Labels = Float[Tensor, "batch findings"]
Pixels = UInt8[np.ndarray, "count side side"]
_DEEPEST = 8  # times `width`: channels of the smallest maps, as published
_PART = 256  # images sampled at once
_PATIENCE = 1.0  # seconds between two looks at a folder that another process writes


@dataclass(frozen=True)
class DcganSettings:
    """Settings of a DCGAN."""

    width: int = 32  # channels of the largest maps (128 in the original's generator)
    noise: int = 100  # length of z
    steps: int = 900  # optimizer steps of either network
    batch_size: int = 32
    rate: float = 5e-4  # learning rate of Adam
    momentum: float = 0.5  # β1 of Adam
    average: float = 0.99  # decay of the averaged weights, which sample


def sampled_side(side: int) -> int:
    """The largest side up to `side` and 256 that is 4, 5, 6 or 7 times a power of 2, as the layers of a DCGAN need."""
    side = min(side, LARGEST)
    steps = _doublings(side)
    return side >> steps << steps


def _doublings(side: int) -> int:
    """Number of doublings from a feature map of 4 to 7 pixels to `side`."""
    return (side // 4).bit_length() - 1


class DcganGenerator(nn.Module):
    """Noise and labels in, an image out (Radford, Metz & Chintala 2016; the condition: Mirza & Osindero 2014).

        x = tanh(deconvolutions([z, y]))        batch norm and ReLU between them, kernels of 4, stride 2

    `width` is the number of channels of the largest maps; they double towards the smallest, up to eight times.
    """

    def __init__(self, findings: int, side: int, width: int, noise: int) -> None:
        super().__init__()
        steps = _doublings(side)
        channels = _channels(steps, width)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(noise + findings, channels[-1], side >> steps, bias=False),
            nn.BatchNorm2d(channels[-1]),
            nn.ReLU(),
        ]
        for wide, narrow in zip(channels[:0:-1], channels[-2::-1], strict=True):
            layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels[0], 1, 4, 2, 1), nn.Tanh())
        self.apply(_start)

    def forward(self, noise: Float[Tensor, "batch noise"], labels: Labels) -> Images:
        """Images in [-1, 1]."""
        return self.layers(torch.cat([noise, labels], dim=1)[:, :, None, None])


class DcganDiscriminator(nn.Module):
    """An image and labels in, a logit out: is it a real image of a patient with these labels?

        l = W · lrelu([convolutions(x), y])     batch norm and leaky ReLU between them, kernels of 4, stride 2

    Labels join the smallest map, everywhere on it, as in Reed et al. 2016; Mirza & Osindero 2014 have no convolutions.
    """

    def __init__(self, findings: int, side: int, width: int) -> None:
        super().__init__()
        steps = _doublings(side)
        channels = _channels(steps, width)
        layers: list[nn.Module] = [nn.Conv2d(1, channels[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for narrow, wide in pairwise(channels):
            layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.join = nn.Sequential(nn.Conv2d(channels[-1] + findings, channels[-1], 1), nn.LeakyReLU(0.2))
        self.judge = nn.Conv2d(channels[-1], 1, side >> steps)  # stored checkpoints have this name
        self.apply(_start)

    def forward(self, image: Images, *labels: Labels) -> tuple[Float[Tensor, " batch"], ...]:
        """Logits, above 0 for real, of the same images with each of several labels."""
        feature = self.layers(image)  # (B, D, g, g)
        everywhere = [own[:, :, None, None].expand(-1, -1, *feature.shape[2:]) for own in labels]  # (B, C, g, g)
        return tuple(self.judge(self.join(torch.cat([feature, own], dim=1)))[:, 0, 0, 0] for own in everywhere)


def _channels(steps: int, width: int) -> list[int]:
    """Channels from the largest map to the smallest."""
    return [width * min(_DEEPEST, 2**step) for step in range(steps)]


def _start(layer: nn.Module) -> None:
    """Initial weights as published: N(0, 0.02), around 1 for the factors of a batch norm."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


class Dcgan(lightning.LightningModule):
    """Both networks and their losses: a step of the discriminator, then one of the generator, on each batch.

    Row sampling is class-balanced, as for the diffusion model: else a rare finding is hardly ever requested. `side`, of
    the images, is one that `sampled_side` returns.
    """

    def __init__(self, rows: SplitRows, side: int, settings: DcganSettings, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.rows, self.side, self.settings, self.seed = rows, side, settings, derive_seed(seed, "dcgan")
        findings = rows.labels.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "weights"))
            self.generator = DcganGenerator(findings, side, settings.width, settings.noise)
            self.discriminator = DcganDiscriminator(findings, side, settings.width)

    def train_dataloader(self) -> Any:
        """Batches of training rows."""
        order = partial(class_balanced, self.rows.labels, self.seed)
        return loader(self.rows, order, self.settings.steps, self.settings.batch_size)

    def configure_optimizers(self) -> Any:
        """Adam for either network."""
        settings: dict[str, Any] = {"lr": self.settings.rate, "betas": (self.settings.momentum, 0.999)}
        return [torch.optim.Adam(network.parameters(), **settings) for network in (self.generator, self.discriminator)]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """One step of each network.

        The discriminator minimizes the cross-entropy of real images with their labels against synthetic images, and
        against real images with the labels of others (Reed et al. 2016, algorithm 1); the generator minimizes the
        cross-entropy of its synthetic images with the label real.
        """
        of_generator, of_discriminator = self.optimizers(use_pl_optimizer=False)  # type: ignore[misc]
        counted = self.optimizers()[0]  # type: ignore[index]  # Lightning counts the steps of this one alone
        image = to_unit(at_size(batch["image"], self.side)) * 2 - 1
        labels = (batch["label"] == 1).float()
        random = torch.Generator().manual_seed(derive_seed(self.seed, "noise", batch["number"]))
        noise = torch.randn((len(image), self.settings.noise), generator=random).to(image)
        synthetic = self.generator(noise, labels)
        others = labels.roll(1, dims=0)
        differ = (others != labels).any(1).float()

        of_discriminator.zero_grad()
        real, mistaken = self.discriminator(image, labels, others)
        (fake,) = self.discriminator(synthetic.detach(), labels)
        wrong = (functional.softplus(fake) + functional.softplus(mistaken) * differ) / (1 + differ)
        against = functional.softplus(-real).mean() + wrong.mean()
        self.manual_backward(against)
        of_discriminator.step()

        of_generator.zero_grad()
        self.discriminator.requires_grad_(False)
        (fooled,) = self.discriminator(synthetic, labels)
        loss = functional.softplus(-fooled).mean()
        self.manual_backward(loss)
        self.discriminator.requires_grad_(True)
        counted.step()
        loss, against = loss.detach(), against.detach()
        if not (loss + against).isfinite():
            raise Diverged(f"the DCGAN diverged after step {self.global_step}. Leave the arm dcgan out.")
        if self.global_step % LOG_EVERY == 0:
            for logger in self.loggers:
                logger.log_metrics({"generator": float(loss), "discriminator": float(against)}, step=self.global_step)
        return {"loss": loss}

    @torch.no_grad()
    def sample(self, labels: Float[np.ndarray, "count findings"], names: list[str]) -> Pixels:
        """Images of label sets; an image depends on its name and labels only, not on the other images."""
        noise = [generator(self.seed, "draw", name).standard_normal(self.settings.noise) for name in names]
        inputs = torch.from_numpy(np.stack(noise)).float().to(self.device), torch.from_numpy(labels).to(self.device)
        images = self.generator.eval()(*inputs)
        return ((images[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def sample_with_dcgan(
    synthetic: Path, real: Dataset, out: Path, base: Recipe, settings: DcganSettings | None = None
) -> None:
    """Write a synthetic folder in which each image is replaced by a DCGAN image with the same label set.

    Rows, labels, targets, verdicts and order stay, so that doses, schedule and the number of images shown are the same.
    The DCGAN learns from the train rows of the dataset only, and is trained once: a finished folder stays, an
    interrupted one is continued, and of several processes one writes it while the others wait. `base` has the seed and
    the hardware settings.
    """
    while not finished(out):
        with held(out.with_name(f"{out.name}.lock")) as lock:
            if lock is not None and not finished(out):
                _make(synthetic, real, out, base, settings or DcganSettings())
        if lock is None:
            time.sleep(_PATIENCE)


def _make(synthetic: Path, real: Dataset, out: Path, base: Recipe, settings: DcganSettings) -> None:
    opened = open_synthetic(synthetic, real).dataset
    side = real.require_images().shape[1]
    if side < SMALLEST:
        raise DataError(f"{real.folder}: images have {side} pixels; a DCGAN needs {SMALLEST} or more. Leave it out.")
    dcgan = train_dcgan(training_rows(real), sampled_side(side), settings, base, out / "training")
    labels = (opened.manifest.select(opened.space.findings).fill_null(0) == 1).to_numpy().astype(np.float32)
    names = opened.manifest["image_id"].to_list()

    def parts() -> Iterator[Pixels]:
        for start in range(0, len(labels), _PART):
            part = slice(start, start + _PART)
            yield at_size(torch.from_numpy(dcgan.sample(labels[part], names[part])), side).numpy()

    provenance = read_provenance(synthetic)
    info = {**opened.info, "dcgan": {**asdict(settings), "seed": base.seed, "side": dcgan.side}}
    write_folder(out, replace(opened, info=info), f"DCGAN for {opened.name}", opened.manifest, provenance, parts())


def train_dcgan(rows: SplitRows, side: int, settings: DcganSettings, base: Recipe, folder: Path) -> Dcgan:
    """A trained DCGAN, with averaged weights; training continues from a checkpoint in `folder`."""
    print(f"training a DCGAN, {settings.steps} steps at {side} pixels", file=sys.stderr, flush=True)
    dcgan = Dcgan(rows, side, settings, base.seed)
    fit = FitRecipe(
        ema=settings.average, grid_every=0, save_steps=0, devices=1, nodes=1, accelerator=base.train.accelerator
    )
    launch = launched(fit.devices, fit.nodes, gpu=on_gpu(fit.accelerator))
    with stop_signals() as request:
        fit_stage(dcgan, "DCGAN", folder, steps=settings.steps, settings=fit, request=request, launch=launch)
    return dcgan.eval()
