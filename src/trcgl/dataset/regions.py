"""Where the findings of images are: the boxes of readers, and the masks of phantoms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool

from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.sources.phantom import options_of, specification
from trcgl.dataset.store import Dataset
from trcgl.phantom.boxes import boxes
from trcgl.phantom.render import render_masks


@dataclass(frozen=True)
class FindingRegions:
    """Pairs of an image and a finding with their boxes, and the mask of each pair where it is known."""

    pairs: pl.DataFrame
    masks: Sequence[Bool[np.ndarray, "_ _"]] | None


def find_regions(dataset: Dataset, rows: pl.DataFrame, space: LabelSpace) -> FindingRegions | None:
    """The regions of the findings in rows of the manifest; None where no image has a box."""
    pairs = boxed_pairs(dataset, rows, space)
    return None if pairs is None else FindingRegions(pairs, phantom_masks(dataset, pairs))


def boxed_pairs(dataset: Dataset, rows: pl.DataFrame, space: LabelSpace) -> pl.DataFrame | None:
    """Pairs of an image and a finding that have boxes, or None where there are none.

    Returns:
        image_id, row, patient_id, weight, finding, and the lists x, y, w, h; ordered by row and finding.
    """
    if dataset.boxes is None:
        return None
    boxes = dataset.boxes.filter(pl.col("finding").is_in(space.findings))
    of_split = rows.select("image_id", "row", "patient_id", "weight")
    pairs = of_split.join(boxes, on="image_id").group_by(*of_split.columns, "finding").agg("x", "y", "w", "h")
    return pairs.sort("row", "finding") if pairs.height else None


def phantom_masks(dataset: Dataset, pairs: pl.DataFrame) -> list[Bool[np.ndarray, "size size"]] | None:
    """The masks of the findings of phantoms, rendered again, because a dataset folder does not store them.

    Returns:
        A mask for each pair; None where the images are not phantoms, or where this version renders them differently.
    """
    if dataset.info["source"] != "phantom":
        return None
    masks = []
    try:
        options = options_of(dataset.folder)
        nowhere = np.zeros((options.size, options.size), bool)
        for image in pairs.partition_by("image_id", maintain_order=True):
            spec = specification(image["image_id"][0], options)
            rendered = render_masks(spec)
            for finding, *edges in image.select("finding", "x", "y", "w", "h").iter_rows():
                mask = rendered.get(finding, nowhere)
                stored = np.sort(np.array(edges, np.float64).T * options.size, axis=0)
                again = np.sort(np.array(boxes(mask), np.float64), axis=0)
                if stored.shape != again.shape or not np.allclose(stored, again, atol=0.01):
                    return None
                masks.append(mask)
    except DataError:  # an option that this version does not have
        return None
    return masks
