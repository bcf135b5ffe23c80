"""Generative augmentation by a conditional DCGAN, a baseline for the images of the diffusion model."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
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
from trcgl.study.experiments.dcgan_networks import SMALLEST, DcganDiscriminator, DcganGenerator, sampled_side
from trcgl.study.training_variants import finished, write_folder
from trcgl.study.worker import held
from trcgl.training.batches import SplitRows
from trcgl.training.sampling import class_balanced
from trcgl.training.stop import stop_signals

LOG_EVERY = 10
"""Steps between two lines of the log."""
_PART = 256  # images sampled at once
_PATIENCE = 1.0  # seconds between two looks at a folder that another process writes


@dataclass(frozen=True)
class DcganSettings:
    """Settings of a DCGAN.

    Args:
        width: channels of the largest maps (128 in the original's generator).
        noise: length of z.
        steps: optimizer steps of either network.
        batch_size: images per step.
        rate: learning rate of Adam.
        momentum: β1 of Adam.
        average: decay of the averaged weights, which sample.
    """

    width: int = 32
    noise: int = 100
    steps: int = 900
    batch_size: int = 32
    rate: float = 5e-4
    momentum: float = 0.5
    average: float = 0.99


class Dcgan(lightning.LightningModule):
    """Both networks and their losses: a step of the discriminator, then one of the generator, on each batch.

    Row sampling is class-balanced, as for the diffusion model: else a rare finding is hardly ever requested.

    Args:
        rows: training rows.
        side: of the images in pixels, as `sampled_side` allows.
        settings: of both networks.
        seed: of weights, noise and row sampling.
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
        against real images with the labels of others (Reed et al. 2016, algorithm 1); the generator that of synthetic
        images called real.
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
        self._log(loss.detach(), against.detach())
        return {"loss": loss.detach()}

    def _log(self, loss: Tensor, against: Tensor) -> None:
        if not (loss + against).isfinite():
            raise Diverged(f"the DCGAN diverged after step {self.global_step}. Leave the arm dcgan out.")
        if self.global_step % LOG_EVERY == 0:
            for logger in self.loggers:
                logger.log_metrics({"generator": float(loss), "discriminator": float(against)}, step=self.global_step)

    @torch.no_grad()
    def sample(
        self, labels: Float[np.ndarray, "count findings"], names: list[str]
    ) -> UInt8[np.ndarray, "count side side"]:
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
    interrupted one is continued, and of several processes one writes it while the others wait.

    Args:
        synthetic: written by `trcgl synthesize` for the dataset.
        real: the dataset.
        out: the folder to write, unless it is finished.
        base: recipe with the seed and the hardware settings.
        settings: of the DCGAN.

    Raises:
        DataError: the folder belongs to another dataset, or the images are too small.
        Diverged: training diverged.
        Interrupted: a signal asked to stop; the state is saved.
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

    def parts() -> Iterator[UInt8[np.ndarray, "count side side"]]:
        for start in range(0, len(labels), _PART):
            part = slice(start, start + _PART)
            yield at_size(torch.from_numpy(dcgan.sample(labels[part], names[part])), side).numpy()

    provenance = read_provenance(synthetic)
    info = {**opened.info, "dcgan": {**asdict(settings), "seed": base.seed, "side": dcgan.side}}
    write_folder(out, replace(opened, info=info), f"DCGAN for {opened.name}", opened.manifest, provenance, parts())


def train_dcgan(rows: SplitRows, side: int, settings: DcganSettings, base: Recipe, folder: Path) -> Dcgan:
    """A trained DCGAN, with averaged weights.

    Args:
        rows: training rows.
        side: of its images in pixels, as `sampled_side` allows.
        settings: of the DCGAN.
        base: recipe with the seed and the hardware settings.
        folder: of checkpoint and log; training continues from a checkpoint in it.
    """
    print(f"training a DCGAN, {settings.steps} steps at {side} pixels", file=sys.stderr, flush=True)
    dcgan = Dcgan(rows, side, settings, base.seed)
    fit = FitRecipe(
        ema=settings.average, grid_every=0, save_steps=0, devices=1, nodes=1, accelerator=base.train.accelerator
    )
    with stop_signals() as request:
        fit_stage(dcgan, stage="DCGAN", folder=folder, steps=settings.steps, settings=fit, request=request)
    return dcgan.eval()
