"""Real training images that image-to-image synthesis starts from (DA-Fusion, Trabucco et al. 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from trcgl.core.errors import DataError
from trcgl.core.randomness import generator as randomness
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import sources
from trcgl.model.tensors import at_size, to_unit

SourceImages = Literal["without_target", "with_target", "any"]
COLUMNS = ("pixel_source_image", "pixel_source_patient")
"""Columns that `with_pixel_sources` adds to a plan."""


@dataclass(frozen=True)
class ImageStart:
    """How image-to-image synthesis starts."""

    images: UInt8[np.ndarray, "store height width"]  # image store of the real dataset
    row_of: Mapping[str, int]  # image_id to row of the store
    strength: float  # share of the noise levels that is added to an image

    @classmethod
    def of(cls, dataset: Dataset, strength: float) -> "ImageStart":
        """Start from the training images of a dataset."""
        rows = dataset.split("train").select("image_id", "row").iter_rows()
        return cls(dataset.require_images(), dict(rows), strength)

    def read(self, plan: pl.DataFrame, side: int) -> Float[Tensor, "rows 1 side side"]:
        """The pixel sources of some rows of a plan, resized to `side`, in [-1, 1]."""
        stored = self.images[[self.row_of[image] for image in plan["pixel_source_image"]]]
        return to_unit(at_size(torch.from_numpy(stored), side)) * 2 - 1


def with_pixel_sources(plan: pl.DataFrame, dataset: Dataset, wanted: SourceImages = "without_target") -> pl.DataFrame:
    """A plan with the real image that each synthetic image starts from, chosen by the seed of the synthetic image.

    The image is a training image of another patient than the label set's. If there are any, images of the same view as
    the label set's are chosen, and among these, images in which the target is known to be absent.

    `wanted`: `without_target` for images that are not known to have the target (for the normal label, normal images
    instead), `with_target` for images that have it, or `any`.

    Returns:
        The plan with `COLUMNS`.

    Raises:
        DataError: no other patient has such an image.
    """
    train, space = dataset.split("train").with_row_index("place"), dataset.space
    images, patients = train["image_id"].to_list(), train["patient_id"].to_list()
    number_of = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    numbers = np.array([number_of[patient] for patient in patients])
    view_of = dict(zip(images, train["view"], strict=True))
    views = train["view"].fill_null("").to_numpy()
    worth: dict[tuple[str, str | None], Int[np.ndarray, " train"]] = {}
    chosen = []
    for row in plan.select("target", "source_image_id", "patient_id", "seed").iter_rows(named=True):
        target, view = row["target"], view_of[row["source_image_id"]]
        if (target, view) not in worth:
            same_view = 2 * (views == view) if view else 0
            worth[target, view] = _worth(train, space, target, wanted) + same_view
        own = np.where(numbers == number_of[row["patient_id"]], -1, worth[target, view])
        best = np.flatnonzero(own == own.max())
        if own.max() < 0:
            other = "--source-images without_target" if wanted == "with_target" else "--source-images any"
            raise DataError(
                f"{dataset.folder}: there is no training image {_WANTED[wanted]} {target} of another patient than that "
                f"of {row['source_image_id']!r} to start from. Give {other}, or leave {target} out of --targets."
            )
        place = int(best[randomness(row["seed"], "pixel source").integers(len(best))])
        chosen.append((images[place], patients[place]))
    return plan.hstack(pl.DataFrame(chosen, dict.fromkeys(COLUMNS, pl.String), orient="row"))


_WANTED = {"without_target": "without", "with_target": "with", "any": "for"}
_NEVER = -4  # worth of an image that is not wanted; stays below 0 with the worth of its view


def _worth(train: pl.DataFrame, space: LabelSpace, target: str, wanted: SourceImages) -> Int[np.ndarray, " train"]:
    """Below 0 for images that are not wanted, 1 where the target is known to be absent, else 0."""
    worth = np.full(train.height, _NEVER)
    if wanted == "any":
        worth[:] = 0
    elif wanted == "with_target" or target == space.normal:
        worth[sources(train, space, target)["place"].to_numpy()] = 0
    else:
        value = train[space.findings[space.index(target)]].fill_null(-1).to_numpy()
        worth[value != 1] = 0
        worth[value == 0] = 1
    return worth


def absent_in_sources(plan: pl.DataFrame, dataset: Dataset) -> dict[str, Any]:
    """For each finding, whether it is known to be absent in the pixel source of every row; all true without sources."""
    findings = dataset.space.findings
    if "pixel_source_image" not in plan.columns:
        return {finding: pl.lit(True) for finding in findings}
    known = dataset.split("train").select(pl.col("image_id").alias("pixel_source_image"), *findings)
    joined = plan.select("pixel_source_image").join(known, on="pixel_source_image", how="left", maintain_order="left")
    return {finding: (joined[finding] == 0).fill_null(False) for finding in findings}
