"""Generative augmentation by a conditional DCGAN: what any drawn image does, against what ours do."""

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
from trcgl.study.experiments.dcgan_networks import SMALLEST, DcganDiscriminator, DcganGenerator, drawn_side
from trcgl.study.training_variants import write_folder
from trcgl.study.worker import held
from trcgl.training.batches import SplitRows
from trcgl.training.sampling import class_balanced
from trcgl.training.stop import stop_signals

LOG_EVERY = 10
"""Steps between two lines of the log."""
_PART = 256  # images drawn at once
_PATIENCE = 1.0  # seconds between two looks at a folder that another process makes


@dataclass(frozen=True)
class DcganSettings:
    """What decides a DCGAN, besides its training images and the seed.

    Args:
        width: channels of the largest maps (128 in the original's generator).
        noise: length of z.
        steps: of both networks.
        batch_size: images a step.
        rate: learning rate of Adam.
        momentum: β1 of Adam.
        average: decay of the average of the weights that draws.
    """

    width: int = 32
    noise: int = 100
    steps: int = 900
    batch_size: int = 32
    rate: float = 5e-4
    momentum: float = 0.5
    average: float = 0.99


class Dcgan(lightning.LightningModule):
    """Both networks and what they minimize: a step of the discriminator, then one of the generator, on one batch.

    Findings take turns, as in our generator: with rows as they come, a rare finding is hardly ever asked for.

    Args:
        rows: training rows.
        side: of the images, as `drawn_side` allows.
        settings: of both networks.
        seed: of weights, noise and order.
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
        """Adam for each."""
        how: dict[str, Any] = {"lr": self.settings.rate, "betas": (self.settings.momentum, 0.999)}
        networks = (self.generator, self.discriminator)
        return [torch.optim.Adam(one.parameters(), **how) for one in networks]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """One step of each network.

        The discriminator minimizes the cross-entropy of real images with their labels against drawn ones, and against
        real ones with the labels of another (Reed et al. 2016, algorithm 1); the generator that of drawn called real.
        """
        of_generator, of_discriminator = self.optimizers(use_pl_optimizer=False)  # type: ignore[misc]
        counted = self.optimizers()[0]  # type: ignore[index]  # Lightning counts the steps of this one alone
        image = to_unit(at_size(batch["image"], self.side)) * 2 - 1
        labels = (batch["label"] == 1).float()
        random = torch.Generator().manual_seed(derive_seed(self.seed, "noise", batch["number"]))
        noise = torch.randn((len(image), self.settings.noise), generator=random).to(image)
        drawn = self.generator(noise, labels)
        others = labels.roll(1, dims=0)
        differ = (others != labels).any(1).float()

        of_discriminator.zero_grad()
        real, mistaken = self.discriminator(image, labels, others)
        (fake,) = self.discriminator(drawn.detach(), labels)
        wrong = (functional.softplus(fake) + functional.softplus(mistaken) * differ) / (1 + differ)
        against = functional.softplus(-real).mean() + wrong.mean()
        self.manual_backward(against)
        of_discriminator.step()

        of_generator.zero_grad()
        self.discriminator.requires_grad_(False)
        (fooled,) = self.discriminator(drawn, labels)
        loss = functional.softplus(-fooled).mean()
        self.manual_backward(loss)
        self.discriminator.requires_grad_(True)
        counted.step()
        self._tell(loss.detach(), against.detach())
        return {"loss": loss.detach()}

    def _tell(self, loss: Tensor, against: Tensor) -> None:
        if not (loss + against).isfinite():
            raise Diverged(f"the DCGAN diverged after step {self.global_step}. Leave the arm dcgan out.")
        if self.global_step % LOG_EVERY == 0:
            for logger in self.loggers:
                logger.log_metrics({"generator": float(loss), "discriminator": float(against)}, step=self.global_step)

    @torch.no_grad()
    def sample(
        self, labels: Float[np.ndarray, "count findings"], names: list[str]
    ) -> UInt8[np.ndarray, "count side side"]:
        """Images of some label sets; one depends on its name and labels, not on those beside it."""
        noise = [generator(self.seed, "draw", one).standard_normal(self.settings.noise) for one in names]
        asked = torch.from_numpy(np.stack(noise)).float().to(self.device), torch.from_numpy(labels).to(self.device)
        drawn = self.generator.eval()(*asked)
        return ((drawn[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def sample_with_dcgan(
    synthetic: Path, real: Dataset, out: Path, base: Recipe, settings: DcganSettings | None = None
) -> None:
    """Write a synthetic folder in which each drawn image is replaced by one that a DCGAN draws of the same label set.

    Rows, labels, targets, verdicts and order stay, so that doses, schedule and the number of images shown are those of
    the folder. The DCGAN learns from the train rows of the dataset alone, and is trained once: a folder that is
    finished stays, one that was interrupted goes on, and of several processes one makes it while the others wait.

    Args:
        synthetic: written by `trcgl synthesize` for the dataset.
        real: the dataset.
        out: the folder to write, unless it is there already.
        base: its seed and its hardware hold for the DCGAN.
        settings: of the DCGAN.

    Raises:
        DataError: the folder was drawn for another dataset, or the images are too small.
        Diverged: training did.
        Interrupted: a signal asked to stop; the state is saved.
    """
    while not (out / "dataset.json").exists():
        with held(out.with_name(f"{out.name}.lock")) as mine:
            if mine is not None and not (out / "dataset.json").exists():
                _make(synthetic, real, out, base, settings or DcganSettings())
        if mine is None:
            time.sleep(_PATIENCE)


def _make(synthetic: Path, real: Dataset, out: Path, base: Recipe, settings: DcganSettings) -> None:
    drawn = open_synthetic(synthetic, real).dataset
    side = real.require_images().shape[1]
    if side < SMALLEST:
        raise DataError(f"{real.folder}: images have {side} pixels; a DCGAN draws {SMALLEST} or more. Leave it out.")
    dcgan = train_dcgan(training_rows(real), drawn_side(side), settings, base, out / "training")
    labels = (drawn.manifest.select(drawn.space.findings).fill_null(0) == 1).to_numpy().astype(np.float32)
    names = drawn.manifest["image_id"].to_list()

    def parts() -> Iterator[UInt8[np.ndarray, "count side side"]]:
        for start in range(0, len(labels), _PART):
            part = slice(start, start + _PART)
            yield at_size(torch.from_numpy(dcgan.sample(labels[part], names[part])), side).numpy()

    provenance = read_provenance(synthetic)
    about = {**drawn.info, "dcgan": {**asdict(settings), "seed": base.seed, "side": dcgan.side}}
    write_folder(out, replace(drawn, info=about), f"DCGAN for {drawn.name}", drawn.manifest, provenance, parts())


def train_dcgan(rows: SplitRows, side: int, settings: DcganSettings, base: Recipe, folder: Path) -> Dcgan:
    """A trained DCGAN, with averaged weights.

    Args:
        rows: training rows.
        side: of its images, as `drawn_side` allows.
        settings: of the DCGAN.
        base: its seed and its hardware hold.
        folder: of the checkpoint and the log; where it holds a checkpoint, training goes on from there.
    """
    print(f"a DCGAN learns to draw, {settings.steps} steps at {side} pixels", file=sys.stderr, flush=True)
    dcgan = Dcgan(rows, side, settings, base.seed)
    fit = FitRecipe(
        ema=settings.average, grid_every=0, save_steps=0, devices=1, nodes=1, accelerator=base.train.accelerator
    )
    with stop_signals() as request:
        fit_stage(dcgan, stage="DCGAN", folder=folder, steps=settings.steps, settings=fit, request=request)
    return dcgan.eval()
