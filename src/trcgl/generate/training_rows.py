"""Training batches of a generator: train rows only, class-balanced, mixed with uniformly sampled rows."""

from collections.abc import Sequence

import numpy as np

from trcgl.core.errors import DataError
from trcgl.core.generator_recipe import FitRecipe
from trcgl.core.randomness import derive_seed, generator
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset
from trcgl.generate.latent_cache import LatentRows
from trcgl.training.batches import Batches, ResumableLoader, SplitRows
from trcgl.training.sampling import Labels, RowNumbers, RowSampler, class_balanced, natural


def training_rows(dataset: Dataset, split: str = "train") -> SplitRows:
    """Images and labels of the rows that a generator is trained on."""
    if dataset.info["source"] == "synthetic":
        raise DataError(f"{dataset.folder} holds synthetic images. Train a generator on the real dataset.")
    if split != "train":
        raise DataError(
            f"{dataset.folder}: a generator is trained on train patients only, not on {split!r}: synthetic images "
            "would carry val or test patients into training and make every result on them too good."
        )
    dataset.require_images()
    rows = SplitRows((dataset, dataset.split("train")))
    if not (rows.labels == 1).any():
        raise DataError(f"{dataset.folder}: no training row has a finding, so there are no prompts to learn.")
    return rows


def most_sampled(space: LabelSpace) -> list[int]:
    """Columns of the tail findings and of the normal label.

    Normal radiographs are sampled as often as each tail finding; otherwise synthetic images with a normal prompt would
    show traces of tail findings.
    """
    tail = space.in_group("tail")
    beside = (space.normal,) if tail and space.normal else ()
    return [space.index(finding) for finding in (*tail, *beside)]


def sampler(labels: Labels, favored: Sequence[int], settings: FitRecipe, seed: int) -> RowSampler:
    """Class-balanced row sampling; `settings` give the shares of the `favored` findings and of uniform sampling."""
    if settings.row_sampling == "natural":
        return lambda epoch: natural(len(labels), seed, epoch)

    favored_labels = labels[:, list(favored)]

    def mixed(epoch: int) -> RowNumbers:
        random = generator(seed, "replay", epoch)
        replayed = random.random(len(labels)) < settings.replay
        rows = class_balanced(labels, seed, epoch)
        if (favored_labels == 1).any():
            of_tail = random.random(len(labels)) < settings.tail
            rows = np.where(of_tail, class_balanced(favored_labels, derive_seed(seed, "tail"), epoch), rows)
        return np.where(replayed, natural(len(labels), seed, epoch), rows)

    return mixed


def loader(
    rows: SplitRows | LatentRows,
    order: RowSampler,
    steps: int,
    batch_size: int,
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
) -> ResumableLoader:
    """A loader of `steps` batches, divided among the processes, that can resume at any batch.

    Lightning sees a single epoch, however often the rows are repeated: a generator is trained by steps.
    """
    needed = steps * batch_size
    shown = np.concatenate([order(epoch) for epoch in range(-(-needed // len(rows)))])[:needed]
    return ResumableLoader(rows, Batches(lambda _: shown, needed, batch_size, rank, processes), workers)
