"""Batches for training and validation: batch k of a run is a function of (seed, epoch, k), wherever it is resumed.

Rows of the test split are never given to it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch.utils import data

from trcgl.core.recipe import Recipe
from trcgl.dataset.manifest import label_array
from trcgl.dataset.patient_halves import half
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import SyntheticRows
from trcgl.model.tensors import at_size, to_unit
from trcgl.training.augment import augment, mixup, sample_parameters, sample_shares
from trcgl.training.sampling import Sampler, sampler, with_synthetic


class Part(NamedTuple):
    """One process's part of a batch.

    Args:
        rows: rows of the split, (b,).
        slots: their places in the whole batch, (b,).
        real: False where a row only fills the part up to the length that every process has, (b,).
        number: number of the batch within the run.
        of: images in the whole batch.
    """

    rows: Int[np.ndarray, " part"]
    slots: Int[np.ndarray, " part"]
    real: np.ndarray
    number: int
    of: int


class SplitRows(data.Dataset[dict[str, Any]]):
    """Images and labels of the rows of one split, read a part of a batch at a time.

    The store is opened by the process that reads it: a memory map that is sent to a worker would be copied whole.
    """

    def __init__(self, dataset: Dataset, rows: pl.DataFrame) -> None:
        self.labels = label_array(rows, dataset.space)
        self.weights = rows["weight"].to_numpy().astype(np.float64)
        self.image_ids = rows["image_id"].to_list()
        self._store_rows = rows["row"].to_numpy()
        self._path: Path = dataset.folder / "images.npy"
        self._images: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: Part) -> dict[str, Any]:
        """Image (b, H, W) uint8, label (b, C) float32 with NaN unknown, and the fields of the part."""
        if self._images is None:
            self._images = np.load(self._path, mmap_mode="r")
        return {
            "image": torch.from_numpy(self._images[self._store_rows[part.rows]]),
            "label": torch.from_numpy(self.labels[part.rows]),
            "row": torch.from_numpy(part.rows),
            "slot": torch.from_numpy(part.slots),
            "real": torch.from_numpy(part.real),
            "number": part.number,
            "of": part.of,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": None}


class RealAndSynthetic(data.Dataset[dict[str, Any]]):
    """Real rows, and drawn ones numbered after them."""

    def __init__(self, real: SplitRows, drawn: SplitRows) -> None:
        self._real, self._drawn = real, drawn
        self.image_ids = real.image_ids + drawn.image_ids

    def __getitem__(self, part: Part) -> dict[str, Any]:
        """As of `SplitRows`."""
        there = part.rows >= len(self._real)
        batch = self._real[part._replace(rows=np.where(there, 0, part.rows))]
        if there.any():
            drawn = self._drawn[part._replace(rows=part.rows[there] - len(self._real))]
            places = torch.from_numpy(there)
            batch["image"][places], batch["label"][places] = drawn["image"], drawn["label"]
        return {**batch, "row": torch.from_numpy(part.rows)}


class Batches:
    """The batches of an epoch for one of several processes.

    A batch is dealt to the processes in pairs, so that `mixup` finds the other image of a pair on the same process.
    Every process gets equally many rows; where they do not divide, a process fills up with a row that is not `real`
    and is left out of the loss and of every metric.
    """

    def __init__(self, rows_of_epoch: Sampler, rows: int, batch_size: int, rank: int, processes: int) -> None:
        self.epoch = 0
        self._rows_of_epoch = rows_of_epoch
        self._rows, self._batch_size, self._rank, self._processes = rows, batch_size, rank, processes

    def __len__(self) -> int:
        return -(-self._rows // self._batch_size)

    def parts(self, start: int = 0) -> Iterator[Part]:
        """This process's parts of batch `start` and the following."""
        rows = self._rows_of_epoch(self.epoch)
        for number in range(start, len(self)):
            batch = rows[number * self._batch_size : (number + 1) * self._batch_size]
            pairs = self._rank + self._processes * np.arange(-(-len(batch) // (2 * self._processes)))
            slots = (2 * pairs[:, None] + np.arange(2)).ravel()
            if self._processes == 1:
                slots = slots[: len(batch)]
            real = slots < len(batch)
            slots = np.where(real, slots, 0)
            yield Part(batch[slots], slots, real, self.epoch * len(self) + number, len(batch))


class Loader:
    """The parts of an epoch as tensors, from any number of workers."""

    def __init__(self, rows: SplitRows | RealAndSynthetic, batches: Batches, workers: int) -> None:
        self._dataset, self._batches, self._workers = rows, batches, workers

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._read(0)

    def _read(self, start: int) -> Iterator[dict[str, Any]]:
        yield from data.DataLoader(
            self._dataset,
            sampler=list(self._batches.parts(start)),
            batch_size=None,
            num_workers=self._workers,
            pin_memory=torch.cuda.is_available(),
        )


class ResumableLoader(Loader):
    """A loader that goes on after the batches that were used, with any number of workers.

    Lightning stores `state_dict` in its checkpoints and calls `set_epoch` of `sampler` before each epoch. Batches are
    counted when they are handed out: workers read ahead.
    """

    def __init__(self, rows: SplitRows | RealAndSynthetic, batches: Batches, workers: int) -> None:
        super().__init__(rows, batches, workers)
        self._used = 0

    @property
    def sampler(self) -> "ResumableLoader":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch: to its beginning, unless it is the epoch that was resumed."""
        if epoch != self._batches.epoch:
            self._batches.epoch, self._used = epoch, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # Nothing may happen before the first batch is asked for: Lightning makes the iterator before it sets the epoch.
        if self._used == len(self):
            self._used = 0
        for batch in self._read(self._used):
            self._used += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were used."""
        return {"epoch": self._batches.epoch, "used": self._used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken."""
        self._batches.epoch, self._used = state["epoch"], state["used"]


class RadiographData(lightning.LightningDataModule):
    """The train and val rows of a dataset that take part.

    Args:
        dataset: an open dataset folder with images.
        recipe: sampler, batch size and workers; batches are split over the processes of the trainer.
        drawn: rows that train beside the real ones. Everything that is counted is counted on the real ones.

    Raises:
        DataError: the dataset has no images, or one of the two splits is empty.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, drawn: SyntheticRows | None = None) -> None:
        super().__init__()
        dataset.require_images()
        self.recipe = recipe
        self.train_manifest = half(dataset, recipe.train.half, with_none=recipe.train.with_none)
        self.train_rows = SplitRows(dataset, self.train_manifest)
        self._drawn = SplitRows(drawn.dataset, drawn.rows) if drawn and drawn.rows.height else None
        self.val_rows = SplitRows(dataset, dataset.split("val", with_none=recipe.train.with_none))

    @property
    def train_batches(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.train_rows) // self.recipe.train.batch_size)

    @property
    def shown(self) -> SplitRows | RealAndSynthetic:
        """What a batch of training takes its rows from."""
        return RealAndSynthetic(self.train_rows, self._drawn) if self._drawn else self.train_rows

    def train_dataloader(self) -> ResumableLoader:
        """Batches in the order of the sampler."""
        order = sampler(self.recipe.train, self.train_rows.labels, self.recipe.seed)
        if self._drawn:
            order = with_synthetic(self.recipe, order, len(self._drawn))
        return ResumableLoader(self.shown, self._batches(self.train_rows, order), self.recipe.train.workers)

    def val_dataloader(self) -> Loader:
        """Batches in the order of the manifest."""
        count = len(self.val_rows)
        batches = self._batches(self.val_rows, lambda epoch: np.arange(count))
        return Loader(self.val_rows, batches, self.recipe.train.workers)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Resize, and augment for training, on the device and in float32 whatever the precision of the network."""
        image = to_unit(at_size(batch["image"], self.recipe.model.image_size))
        if self.trainer and self.trainer.training:
            parameters = sample_parameters(self.recipe.augment, batch["of"], self.recipe.seed, batch["number"])
            image = augment(image, parameters.take(batch["slot"], image.device))
            if alpha := self.recipe.augment.mixup:
                shares = sample_shares(alpha, batch["of"], self.recipe.seed, batch["number"])[batch["slot"].cpu()]
                image, label = mixup(image, batch["label"], other_of_pair(batch["real"]), shares.to(image.device))
                return {**batch, "image": image, "label": label}
        return {**batch, "image": image}

    def _batches(self, rows: SplitRows, order: Sampler) -> Batches:
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return Batches(order, len(rows), self.recipe.train.batch_size, rank, processes)


def other_of_pair(real: torch.Tensor) -> torch.Tensor:
    """Place of the other row of each pair (0 and 1, 2 and 3, ...) in a part; its own where the other is not `real`."""
    own = torch.arange(len(real), device=real.device)
    other = (own ^ 1).clamp(max=len(real) - 1)
    return torch.where(real[other], other, own)


def known_labels(
    label: Float[torch.Tensor, "batch findings"], real: torch.Tensor
) -> tuple[Float[torch.Tensor, "batch findings"], torch.Tensor]:
    """Targets in [0, 1] with 0 where unknown, and which are known; a filling row knows nothing."""
    known = ~label.isnan() & real[:, None]
    return torch.where(known, label, 0.0), known
