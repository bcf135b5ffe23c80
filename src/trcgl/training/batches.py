"""Batches for training and validation. Batch k of an epoch is a function of (seed, epoch, k), also after a resume."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import numpy as np
import polars as pl
import torch
from jaxtyping import Int, Shaped
from torch.utils import data

from trcgl.core.recipe import Recipe
from trcgl.dataset.manifest import label_array
from trcgl.dataset.patient_halves import half
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import SyntheticRows
from trcgl.model.tensors import at_size, to_unit
from trcgl.training.augment import augment, mixup, sample_parameters, sample_shares
from trcgl.training.losses.base import Elements
from trcgl.training.quality import sample_quality
from trcgl.training.sampling import RowSampler, epoch_rows, row_sampler, with_synthetic


class Part(NamedTuple):
    """The part of a batch that one process computes."""

    rows: Int[np.ndarray, " part"]
    slots: Int[np.ndarray, " part"]  # places of the rows in the whole batch
    real: np.ndarray  # (b,) False for a row that only pads the part to the common length of all processes
    number: int  # of the batch within the run
    of: int  # images in the whole batch


class SplitRows(data.Dataset[dict[str, Any]]):
    """Torch dataset over rows of one or several datasets; an item is a `Part` of a batch with images and labels.

    Each worker process opens the image files itself, because a pickled memory map would be copied whole.
    """

    def __init__(self, *tables: tuple[Dataset, pl.DataFrame]) -> None:
        self.labels = np.concatenate([label_array(rows, dataset.space) for dataset, rows in tables])
        rows = pl.concat([rows.select("weight", "image_id", "row", "view") for _, rows in tables])
        self.weights = rows["weight"].to_numpy().astype(np.float64)
        self.image_ids = rows["image_id"].to_list()
        self.views = rows["view"].to_list()
        self._store_rows = rows["row"].to_numpy()
        self._store = np.repeat(np.arange(len(tables)), [rows.height for _, rows in tables])
        self._paths = [dataset.folder / "images.npy" for dataset, _ in tables]
        self._images: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: Part) -> dict[str, Any]:
        """Images (b, H, W) uint8 or features (b, D, h, w) float16; labels (b, C), NaN for unknown; the part."""
        return {"image": torch.from_numpy(self.pixels(part.rows)), **self.fields(part)}

    def pixels(self, rows: Int[np.ndarray, " rows"]) -> Shaped[np.ndarray, "rows ..."]:
        """Images (b, H, W) uint8 of some rows, or features (b, D, h, w) float16."""
        self._images = self._images or [np.load(path, mmap_mode="r") for path in self._paths]
        image = np.empty((len(rows), *self._images[0].shape[1:]), self._images[0].dtype)
        for place, images in enumerate(self._images):
            own = self._store[rows] == place
            image[own] = images[self._store_rows[rows[own]]]
        return image

    def fields(self, part: Part) -> dict[str, Any]:
        """An item without its images."""
        return {
            "label": torch.from_numpy(self.labels[part.rows]),
            "row": torch.from_numpy(part.rows),
            "slot": torch.from_numpy(part.slots),
            "real": torch.from_numpy(part.real),
            "number": part.number,
            "of": part.of,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": []}

    def store_rows(self, folder: Path) -> Int[np.ndarray, " rows"]:
        """The rows of `images.npy` of a dataset folder that are read, in ascending order."""
        own = [place for place, path in enumerate(self._paths) if path.parent == folder]
        return np.unique(self._store_rows[np.isin(self._store, own)])

    def read_features(self, folder: Path, path: Path, rows: Int[np.ndarray, " rows"]) -> None:
        """Read an array with the features of the images `rows` instead of the images of a dataset folder."""
        for place, images in enumerate(self._paths):
            if images.parent == folder:
                own = self._store == place
                self._store_rows = np.where(own, np.searchsorted(rows, self._store_rows), self._store_rows)
                self._paths[place] = path


class Batches:
    """The batches of an epoch, for one of several processes.

    A batch is divided among processes in pairs of rows, so that both images of a `mixup` are on the same process. All
    processes have equally many rows: padding rows are marked by `real` and left out of the loss and the metrics.
    """

    def __init__(self, rows_of_epoch: RowSampler, rows: int, batch_size: int, rank: int, processes: int) -> None:
        self.epoch = 0
        self._rows_of_epoch = rows_of_epoch
        self._rows, self._batch_size, self._rank, self._processes = rows, batch_size, rank, processes

    def __len__(self) -> int:
        return -(-self._rows // self._batch_size)

    def parts(self, start: int = 0) -> Iterator[Part]:
        """Parts of this process, from batch `start` on."""
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
    """Loads the parts of an epoch as tensors, with any number of worker processes."""

    def __init__(self, rows: data.Dataset[dict[str, Any]], batches: Batches, workers: int) -> None:
        self._dataset, self._batches, self._workers = rows, batches, workers
        self._used = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from data.DataLoader(
            self._dataset,
            sampler=list(self._batches.parts(self._used)),
            batch_size=None,
            num_workers=self._workers,
            pin_memory=torch.cuda.is_available(),
        )


class ResumableLoader(Loader):
    """A loader that resumes within an epoch.

    Lightning stores `state_dict` in its checkpoints and calls `set_epoch` of `sampler` before each epoch. Batches are
    counted when they are yielded, not when they are read, because workers read ahead.
    """

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
        for batch in super().__iter__():
            self._used += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of its batches that were used."""
        return {"epoch": self._batches.epoch, "used": self._used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume after the batches that were used."""
        self._batches.epoch, self._used = state["epoch"], state["used"]


class RadiographData(lightning.LightningDataModule):
    """Batches of the train and val rows of a dataset, and of additional synthetic rows for training.

    Raises:
        DataError: the dataset has no images, or one of the two splits is empty.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, synthetic: SyntheticRows | None = None) -> None:
        super().__init__()
        dataset.require_images()
        self.recipe = recipe
        rows: dict[str, Any] = {"with_none": recipe.train.with_none, "views": recipe.train.views}
        self.train_manifest = half(dataset, recipe.train.half, **rows)
        # Patients of all views: the audit recognizes the half by them, whatever the views.
        everyone = half(dataset, recipe.train.half, with_none=recipe.train.with_none)
        self.training_patients: list[str] = everyone["patient_id"].unique().to_list()
        train = (dataset, self.train_manifest)
        self._datasets = [dataset]
        self.train_rows = self.all_train_rows = SplitRows(train)
        if synthetic and synthetic.rows.height:
            self._datasets.append(synthetic.dataset)
            generated = synthetic.rows
            if recipe.synthetic.unrequested == "absent":
                generated = generated.with_columns(pl.col(dataset.space.findings).fill_null(0))
            self.all_train_rows = SplitRows(train, (synthetic.dataset, generated))  # synthetic rows are the last
        pooled = recipe.synthetic.schedule == "pool"
        self.counted_rows = self.all_train_rows if pooled else self.train_rows
        """Rows that row sampling, class frequencies and co-occurrence count."""
        self.val_rows = SplitRows((dataset, dataset.split("val", **rows)))

    @property
    def train_batches(self) -> int:
        """Number of batches of an epoch."""
        return -(-self.epoch_rows // self.recipe.train.batch_size)

    @property
    def epoch_rows(self) -> int:
        """Number of rows of an epoch."""
        return epoch_rows(self.recipe.train, self.counted_rows.labels)

    def images_of_run(self) -> list[tuple[Dataset, Int[np.ndarray, " rows"]]]:
        """Each dataset of the run and the rows of its `images.npy` that train or val read."""
        splits = (self.all_train_rows, self.val_rows)
        rows = [np.concatenate([split.store_rows(dataset.folder) for split in splits]) for dataset in self._datasets]
        return [(dataset, np.unique(own)) for dataset, own in zip(self._datasets, rows, strict=True)]

    def read_features(self, dataset: Dataset, path: Path, rows: Int[np.ndarray, " rows"]) -> None:
        """Read an array with the features of the images `rows` instead of the images of a dataset."""
        splits = {id(split): split for split in (self.train_rows, self.all_train_rows, self.val_rows)}
        for split in splits.values():
            split.read_features(dataset.folder, path, rows)

    def train_dataloader(self) -> ResumableLoader:
        """Training batches, in the order of the row sampling."""
        order = row_sampler(self.recipe.train, self.counted_rows.labels, self.recipe.seed)
        if added := len(self.all_train_rows) - len(self.counted_rows):
            order = with_synthetic(self.recipe, order, len(self.train_rows), added)
        return ResumableLoader(self.all_train_rows, self._batches(self.epoch_rows, order), self.recipe.train.workers)

    def val_dataloader(self) -> Loader:
        """Validation batches, in the order of the manifest."""
        batches = self._batches(len(self.val_rows), lambda epoch: np.arange(len(self.val_rows)))
        return Loader(self.val_rows, batches, self.recipe.train.workers)

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move a batch; the slots stay on the CPU, where the parameters of augmentation are sampled."""
        return {**super().transfer_batch_to_device(batch, device, dataloader_idx), "slot": batch["slot"]}

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Resize, and augment for training, on the device in float32 whatever the precision of the network."""
        if self.recipe.train.frozen_backbone:
            return {**batch, "image": batch["image"].float()}
        image = to_unit(at_size(batch["image"], self.recipe.model.image_size))
        if self.trainer and self.trainer.training:
            parameters = sample_parameters(self.recipe.augment, batch["of"], self.recipe.seed, batch["number"])
            quality = sample_quality(self.recipe.augment, batch["of"], self.recipe.seed, batch["number"])
            quality = quality and quality.take(batch["slot"].numpy())
            image = augment(image, parameters.take(batch["slot"], image.device), quality)
            if alpha := self.recipe.augment.mixup:
                shares = sample_shares(alpha, batch["of"], self.recipe.seed, batch["number"])[batch["slot"]]
                shares = shares.to(image.device, non_blocking=True)
                image, label = mixup(image, batch["label"], other_of_pair(batch["real"]), shares)
                return {**batch, "image": image, "label": label}
        return {**batch, "image": image}

    def _batches(self, rows: int, order: RowSampler) -> Batches:
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return Batches(order, rows, self.recipe.train.batch_size, rank, processes)


def other_of_pair(real: torch.Tensor) -> torch.Tensor:
    """For each row of a part, the place of its partner (0 and 1, 2 and 3, ...); its own place if it has none."""
    own = torch.arange(len(real), device=real.device)
    other = (own ^ 1).clamp(max=len(real) - 1)
    return torch.where(real[other], other, own)


def known_labels(label: Elements, real: torch.Tensor) -> tuple[Elements, torch.Tensor]:
    """Targets in [0, 1] with 0 where unknown, and a mask of known labels; a padding row has no known label."""
    known = ~label.isnan() & real[:, None]
    return torch.where(known, label, 0.0), known
