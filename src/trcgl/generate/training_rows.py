"""Batches for the generator: training rows alone, class-balanced, with head images replayed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from trcgl.core.errors import DataError
from trcgl.core.generator_recipe import FitRecipe
from trcgl.core.randomness import derive_seed, generator
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset
from trcgl.training.batches import Batches, ResumableLoader, SplitRows
from trcgl.training.sampling import Sampler, class_balanced, natural


def training_rows(dataset: Dataset, split: str = "train") -> SplitRows:
    """Images and labels of the rows that a generator may see.

    Raises:
        DataError: the split is another than train, empty, or the dataset has no images or drawn ones.
    """
    if dataset.info["source"] == "synthetic":
        raise DataError(f"{dataset.folder} holds drawn images. A generator learns from real ones: give their dataset.")
    if split != "train":
        raise DataError(
            f"{dataset.folder}: a generator is trained on train patients only, not on {split!r}; what it has seen of "
            "val or test would come back in drawn images and make every figure on them too good."
        )
    dataset.require_images()
    rows = SplitRows(dataset, dataset.split("train"))
    if not (rows.labels == 1).any():
        raise DataError(f"{dataset.folder}: no training row has a finding, so there is nothing to draw on request.")
    return rows


def most_sampled(space: LabelSpace) -> list[int]:
    """Columns of the tail findings and of the normal label.

    Where a tail finding is all that an image shows, the same without it is a normal radiograph; what is hardly shown is
    drawn with traces of what is shown all the time.
    """
    tail = space.in_group("tail")
    beside = (space.normal,) if tail and space.normal else ()
    return [space.index(one) for one in (*tail, *beside)]


def sampler(
    labels: Float[np.ndarray, "rows findings"], drawn: Sequence[int], settings: FitRecipe, seed: int
) -> Sampler:
    """Epoch to rows: class-balanced, a share of them of the tail, and a share taken by rows as they come.

    Args:
        labels: of the training rows.
        drawn: columns of what will be drawn most, which shares `settings.tail` equally.
        settings: `row_sampling`, `tail` and `replay`.
        seed: of the order.
    """
    if settings.row_sampling == "natural":
        return lambda epoch: natural(len(labels), seed, epoch)

    aimed = labels[:, list(drawn)]

    def mixed(epoch: int) -> Int[np.ndarray, " rows"]:
        draw = generator(seed, "replay", epoch)
        replayed = draw.random(len(labels)) < settings.replay
        rows = class_balanced(labels, seed, epoch)
        if (aimed == 1).any():
            of_tail = draw.random(len(labels)) < settings.tail
            rows = np.where(of_tail, class_balanced(aimed, derive_seed(seed, "tail"), epoch), rows)
        return np.where(replayed, natural(len(labels), seed, epoch), rows)

    return mixed


def loader(
    rows: SplitRows, order: Sampler, steps: int, batch_size: int, rank: int = 0, processes: int = 1
) -> ResumableLoader:
    """So many batches, dealt to the processes; they resume where they stopped.

    To Lightning they are one epoch, whatever passes over the rows they take: a generator is trained by steps.
    """
    needed = steps * batch_size
    shown = np.concatenate([order(epoch) for epoch in range(-(-needed // len(rows)))])[:needed]
    return ResumableLoader(rows, Batches(lambda _: shown, needed, batch_size, rank, processes), workers=0)
