"""Measure the maps of a model against the boxes of a split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool

from trcgl.core.progress import track
from trcgl.core.randomness import generator
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.regions import FindingRegions
from trcgl.dataset.store import Dataset
from trcgl.metrics.localization import (
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
from trcgl.model.folder import LoadedModel
from trcgl.model.maps import kinds, maps, square_weights
from trcgl.model.tensors import at_size

BATCH = 32


def locate(
    model: LoadedModel, dataset: Dataset, regions: FindingRegions, space: LabelSpace, *, replicates: int, seed: int
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Measure all kinds of maps of a model; the seed is that of the bootstrap and of the random maps.

    Returns:
        The metrics of every image and finding with a box; and their means, the `localization` of an evaluation.

    Raises:
        DataError: the dataset holds labels only.
    """
    groups = {finding: space.groups.get(finding) for finding in space.findings}
    table = localize(model, dataset, regions.pairs, masks=regions.masks, seed=seed)
    kind: Regions = "boxes" if regions.masks is None else "masks"
    return table, evaluate_localization(table, groups, regions=kind, replicates=replicates, seed=seed)


def localize(
    model: LoadedModel,
    dataset: Dataset,
    pairs: pl.DataFrame,
    *,
    masks: Sequence[Bool[np.ndarray, "_ _"]] | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Every localization metric for every pair of an image and a finding that has a box.

    Args:
        model: all kinds of maps that it has are measured.
        dataset: has the images.
        pairs: result of `boxed_pairs`.
        masks: mask of the finding of each pair, of the whole image; None takes its boxes.
        seed: random seed of the shuffled maps.

    Returns:
        The table that `evaluate_localization` reads.

    Raises:
        DataError: the dataset holds labels only.
    """
    store, kept = dataset.require_images(), []
    columns = {finding: column for column, finding in enumerate(model.space.findings)}
    by_image = pairs.with_row_index("pair").partition_by("row", maintain_order=True)
    gaussian = centered_gaussian()[None]
    for start in track(range(0, len(by_image), BATCH), what="localization"):
        part = by_image[start : start + BATCH]
        image = np.repeat(np.arange(len(part)), [image.height for image in part])
        batch_pairs = pl.concat(part)
        column = np.array([columns[finding] for finding in batch_pairs["finding"]])
        edges = [np.array(boxes, np.float64).T for boxes in batch_pairs.select("x", "y", "w", "h").iter_rows()]
        if masks is None:
            regions = np.stack([box_mask(boxes) for boxes in edges])
        else:
            regions = np.stack([at_side(masks[pair]) for pair in batch_pairs["pair"]])
        pair_names = [
            f"{image_id} {finding}" for image_id, finding in batch_pairs.select("image_id", "finding").iter_rows()
        ]
        batch = torch.from_numpy(np.array(store[[image["row"][0] for image in part]]))
        images = at_size(batch, model.image_size).numpy()
        measured = {"centered_gaussian": measure(np.broadcast_to(gaussian, regions.shape), regions)}
        for kind in kinds(model):
            generators = [generator(seed, "shuffle", f"{kind} {name}") for name in pair_names]
            grids = maps(model, images, kind)[image, column]
            resize = square_weights(grids.shape[-1], SIDE)
            measured[kind] = measure(resize @ grids.astype(np.float32) @ resize.T, regions)
            measured[f"{kind}:random"] = measure_shuffled(grids, regions, generators, resize)
        figures = [
            pl.Series(f"{source}/{metric}", values[:, place])
            for source, values in measured.items()
            for place, metric in enumerate(METRICS)
        ]
        counted = batch_pairs.with_columns(
            boxes=pl.Series([len(boxes) for boxes in edges]), area=pl.Series(regions.mean((1, 2)))
        )
        kept.append(counted.select(*COLUMNS).with_columns(figures))
    return pl.concat(kept)
