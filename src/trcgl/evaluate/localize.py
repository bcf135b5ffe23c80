"""Measure where the maps of a model lie, on the images of a split that have boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool

from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.sources.phantom import options_of, specification
from trcgl.dataset.store import Dataset
from trcgl.evaluate.localization import (
    COLUMNS,
    METRICS,
    SIDE,
    Regions,
    at_side,
    box_mask,
    centered_gaussian,
    evaluate_localization,
    measure,
    measure_shuffled,
)
from trcgl.evaluate.predictions import Predictions
from trcgl.model.folder import LoadedModel
from trcgl.model.maps import kinds, maps
from trcgl.model.tensors import at_size
from trcgl.model.upsample import to_square
from trcgl.phantom.boxes import boxes
from trcgl.phantom.render import render_masks

BATCH = 32


def locate(
    model: LoadedModel, dataset: Dataset, predictions: Predictions, *, replicates: int, seed: int
) -> tuple[pl.DataFrame, dict[str, Any]] | None:
    """Measure the maps of a model on the images with boxes, or return None where no image has one.

    Args:
        model: all kinds of maps that it has are measured.
        dataset: has the images.
        predictions: of the images and findings to measure.
        replicates: number of patient-bootstrap replicates.
        seed: random seed of the bootstrap and of the random maps.

    Returns:
        The metrics of every image and finding with a box; and their means, the `localization` of an evaluation.

    Raises:
        DataError: the dataset holds labels only.
    """
    rows = dataset.manifest.filter(pl.col("image_id").is_in(predictions.image_id.implode()))
    pairs = boxed_pairs(dataset, rows, predictions.space)
    if pairs is None:
        return None
    masks = phantom_masks(dataset, pairs)
    table = localize(model, dataset, pairs, masks=masks, seed=seed)
    regions: Regions = "boxes" if masks is None else "masks"
    return table, evaluate_localization(
        table, kinds(model), predictions.space, regions=regions, replicates=replicates, seed=seed
    )


def boxed_pairs(dataset: Dataset, rows: pl.DataFrame, space: LabelSpace) -> pl.DataFrame | None:
    """The images of a split and their findings that have boxes, or None where there is none.

    Args:
        dataset: with or without boxes.
        rows: of its manifest.
        space: whose findings are judged.

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
    """The masks behind the boxes of phantoms, drawn again, as a dataset folder does not keep them.

    Args:
        dataset: of any source.
        pairs: of `boxed_pairs`.

    Returns:
        One for each pair; None where they are no phantoms, or where this version would draw them otherwise.
    """
    if dataset.info["source"] != "phantom":
        return None
    masks = []
    try:
        options = options_of(dataset.folder)
        nowhere = np.zeros((options.size, options.size), bool)
        for image in pairs.partition_by("image_id", maintain_order=True):
            drawn = render_masks(specification(image["image_id"][0], options))
            for finding, *edges in image.select("finding", "x", "y", "w", "h").iter_rows():
                mask = drawn.get(finding, nowhere)
                stored = np.sort(np.array(edges, np.float64).T * options.size, axis=0)
                again = np.sort(np.array(boxes(mask), np.float64), axis=0)
                if stored.shape != again.shape or not np.allclose(stored, again, atol=0.01):
                    return None
                masks.append(mask)
    except DataError:  # of other options than this version has
        return None
    return masks


def localize(
    model: LoadedModel,
    dataset: Dataset,
    pairs: pl.DataFrame,
    *,
    masks: Sequence[Bool[np.ndarray, "_ _"]] | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Every metric of localization for every image and finding that has a box.

    Args:
        model: all kinds of maps that it has are measured.
        dataset: holds the images.
        pairs: of `boxed_pairs`.
        masks: where the finding of each pair is, of the whole picture; None takes its boxes.
        seed: of the random maps.

    Returns:
        The table that `evaluate_localization` reads.

    Raises:
        DataError: the dataset holds labels only.
    """
    store, kept = dataset.require_images(), []
    by_image = pairs.with_row_index("pair").partition_by("row", maintain_order=True)
    gaussian = centered_gaussian()[None]
    for start in track(range(0, len(by_image), BATCH), what="localization"):
        part = by_image[start : start + BATCH]
        batch = torch.from_numpy(np.array(store[[one["row"][0] for one in part]]))
        images = at_size(batch, model.image_size).numpy()
        image = np.repeat(np.arange(len(part)), [one.height for one in part])
        told = pl.concat(part)
        column = np.array([model.space.index(one) for one in told["finding"]])
        edges = [np.array(one, np.float64).T for one in told.select("x", "y", "w", "h").iter_rows()]
        regions = np.stack(
            [box_mask(one) for one in edges] if masks is None else [at_side(masks[one]) for one in told["pair"]]
        )
        measured = {"centered_gaussian": measure(np.broadcast_to(gaussian, regions.shape), regions)}
        for kind in kinds(model):
            grids = maps(model, images, kind)[image, column]
            names = [f"{kind} {one} {finding}" for one, finding in told.select("image_id", "finding").iter_rows()]
            measured[kind] = measure(to_square(grids, SIDE), regions)
            measured[f"{kind}:random"] = measure_shuffled(grids, regions, names, seed)
        figures = [
            pl.Series(f"{source}/{metric}", values[:, place])
            for source, values in measured.items()
            for place, metric in enumerate(METRICS)
        ]
        told = told.with_columns(boxes=pl.Series([len(one) for one in edges]), area=pl.Series(regions.mean((1, 2))))
        kept.append(told.select(*COLUMNS).with_columns(figures))
    return pl.concat(kept)
