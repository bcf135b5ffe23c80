"""Measure where the maps of a model lie, on the images of a split that have boxes."""

import numpy as np
import polars as pl
import torch

from trcgl.core.progress import track
from trcgl.data.augment import at_size
from trcgl.data.labels import LabelSpace
from trcgl.data.store import Dataset
from trcgl.data.upsample import to_square
from trcgl.evaluate.localization import COLUMNS, METRICS, SIDE, box_mask, centered_gaussian, measure, measure_shuffled
from trcgl.model.folder import LoadedModel
from trcgl.model.maps import kinds, maps

BATCH = 32


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


def localize(model: LoadedModel, dataset: Dataset, pairs: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Every metric of localization for every image and finding that has a box.

    Args:
        model: all kinds of maps that it has are measured.
        dataset: holds the images.
        pairs: of `boxed_pairs`.
        seed: of the random maps.

    Returns:
        The table that `judge_localization` reads.

    Raises:
        DataError: the dataset holds labels only.
    """
    store, kept = dataset.require_images(), []
    by_image = pairs.partition_by("row", maintain_order=True)
    gaussian = centered_gaussian()[None]
    for start in track(range(0, len(by_image), BATCH), what="localization"):
        part = by_image[start : start + BATCH]
        batch = torch.from_numpy(np.array(store[[one["row"][0] for one in part]]))
        images = at_size(batch, model.image_size).numpy()
        image = np.repeat(np.arange(len(part)), [one.height for one in part])
        told = pl.concat(part)
        column = np.array([model.space.index(one) for one in told["finding"]])
        edges = [np.array(one, np.float64).T for one in told.select("x", "y", "w", "h").iter_rows()]
        masks = np.stack([box_mask(one) for one in edges])
        measured = {"centered_gaussian": measure(np.broadcast_to(gaussian, masks.shape), masks)}
        for kind in kinds(model):
            grids = maps(model, images, kind)[image, column]
            names = [f"{kind} {one} {finding}" for one, finding in told.select("image_id", "finding").iter_rows()]
            measured[kind] = measure(to_square(grids, SIDE), masks)
            measured[f"{kind}:random"] = measure_shuffled(grids, masks, names, seed)
        figures = [
            pl.Series(f"{source}/{metric}", values[:, place])
            for source, values in measured.items()
            for place, metric in enumerate(METRICS)
        ]
        told = told.with_columns(boxes=pl.Series([len(one) for one in edges]), area=pl.Series(masks.mean((1, 2))))
        kept.append(told.select(*COLUMNS).with_columns(figures))
    return pl.concat(kept)
