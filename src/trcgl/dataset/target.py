"""The split on which a model is evaluated: of the dataset that it was trained on, or of another one."""

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.overlap import refuse_overlap
from trcgl.dataset.store import Dataset


@dataclass(frozen=True)
class Target:
    """The split on which a run is evaluated.

    Args:
        name: name of the evaluation: `test`, `val`, or `<dataset>-<split>` for another dataset than the run's own.
        split: name of the split.
        dataset: dataset of the split.
        rows: the rows of the manifest that take part.
        space: findings that model and dataset share, in the order of the model.
        digest: digest of another dataset; None for the run's own.
        unchecked: sentences on what is not known of the patients that initial weights were trained on.
    """

    name: str
    split: str
    dataset: Dataset
    rows: pl.DataFrame
    space: LabelSpace
    digest: str | None = None
    unchecked: tuple[str, ...] = ()


def own_target(dataset: Dataset, split: str, with_none: bool = False, views: Collection[str] = ()) -> Target:
    """A split of the dataset that the model was trained on.

    `with_none` includes rows without a known label; `views` are the views to evaluate, by default every image.

    Raises:
        DataError: the split is unknown or empty, or has no image of these views.
    """
    return Target(split, split, dataset, dataset.split(split, with_none=with_none, views=views), dataset.space)


def external_target(
    own: Dataset,
    space: LabelSpace,
    other: Dataset,
    split: str,
    with_none: bool = False,
    views: Collection[str] = (),
) -> Target:
    """A split of another dataset than `own`, on the findings that it shares with the label `space` of the model.

    Raises:
        DataError: the datasets share no finding, the split is empty, has no image of `views`, or has images or patients
            that were used in training.
    """
    shared = shared_space(space, other)
    refuse_overlap(own, other, split)
    rows = other.split(split, with_none=with_none, views=views)
    digest = storage.sha256_file(other.folder / "dataset.json")
    return Target(f"{other.name}-{split}", split, other, rows, shared, digest)


def shared_space(space: LabelSpace, dataset: Dataset) -> LabelSpace:
    """The label space of a model, reduced to the findings of a dataset.

    Raises:
        DataError: they share no finding.
    """
    findings = tuple(finding for finding in space.findings if finding in dataset.space.findings)
    if not findings:
        raise DataError(
            f"{dataset.folder} has none of the model's findings. It has {', '.join(dataset.space.findings)}; the model "
            f"has {', '.join(space.findings)}. Map its labels to these names when preparing it."
        )
    return reduced_space(space, findings)


def reduced_space(space: LabelSpace, findings: tuple[str, ...]) -> LabelSpace:
    """A label space with some of its findings."""
    return LabelSpace(
        space.name,
        findings,
        {finding: space.groups[finding] for finding in findings if finding in space.groups},
        "name",
        normal=space.normal if space.normal in findings else None,
        normal_in_means=space.normal_in_means,
        raw={finding: space.raw[finding] for finding in findings if finding in space.raw},
    )
