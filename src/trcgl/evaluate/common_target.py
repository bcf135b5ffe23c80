"""The splits on which runs are evaluated together: the same images for all, and none that a run was trained on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from trcgl.core.errors import DataError
from trcgl.dataset.overlap import refuse_other_splits, refuse_overlap
from trcgl.dataset.store import open_dataset
from trcgl.dataset.target import Target, external_target, own_target
from trcgl.model.run_folder import Run
from trcgl.model.scoring import check_fit
from trcgl.model.start_overlap import refuse_start_overlap


def common_target(runs: Sequence[Run], split: str, dataset: str | Path | None = None) -> list[Target]:
    """The split to evaluate, of the runs' own dataset or of another one, for each run, with rows in one order.

    Raises:
        DataError: the runs were trained on different splits of a dataset, or as in `evaluate_run`.
    """
    for run in _of_other_datasets(runs):
        refuse_other_splits(runs[0].dataset, run.dataset)
    if dataset is None:
        return own_targets(runs, split)
    other, first = open_dataset(dataset), runs[0]
    for run in runs:
        check_fit(run.model, other)
    target = external_target(
        first.dataset, first.model.space, other, split, first.recipe.train.with_none, first.recipe.evaluate.views
    )
    for run in _of_other_datasets(runs):
        refuse_overlap(run.dataset, other, split)
    unchecked = tuple(sentence for run in runs for sentence in refuse_start_overlap(run, other, [split]))
    return [dataclasses.replace(target, unchecked=unchecked)] * len(runs)


def own_targets(runs: Sequence[Run], split: str) -> list[Target]:
    """A split of the dataset of each run, with the rows in the order of the first.

    Raises:
        DataError: an image is not in the split of every run.
    """
    with_none = runs[0].recipe.train.with_none
    targets = [own_target(run.dataset, split, with_none, run.recipe.evaluate.views) for run in runs]
    order = targets[0].rows.select("image_id")
    aligned = [targets[0]]
    for run, target in zip(runs[1:], targets[1:], strict=True):
        if different := set(order["image_id"]) ^ set(target.rows["image_id"]):
            raise DataError(
                f"image {min(different)!r} is in {split} of only one of {runs[0].dataset_folder} and "
                f"{run.dataset_folder}. Runs of one ensemble need the same splits: train all of them on one dataset."
            )
        rows = order.join(target.rows, on="image_id", how="left", maintain_order="left")
        aligned.append(dataclasses.replace(target, rows=rows, space=targets[0].space))
    return aligned


def _of_other_datasets(runs: Sequence[Run]) -> list[Run]:
    """One run of each further dataset than that of the first run."""
    by_digest = {run.info["dataset_digest"]: run for run in reversed(runs)}
    return [run for run in by_digest.values() if run is not runs[0]]
