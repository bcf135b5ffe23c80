"""Whether a map covers the finding: pointing game, energy inside and overlap, against two nulls.

Measured on every image that has a box of the finding, at any score. All boxes of a finding on an image are one region;
where the pixels of the finding are known, they are the region.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from trcgl.metrics.bootstrap import CHUNK, resample_patients
from trcgl.metrics.intervals import FEW, difference_interval, effective_patients
from trcgl.metrics.rows import Rows
from trcgl.metrics.summary import mean_over_findings

Regions = Literal["boxes", "masks"]
SIDE = 128
"""Side at which maps and regions are compared, in pixels, for maps on any grid."""
SHARES = (0.25, 0.5, 0.75)
"""Shares of the maximum of a map at which it is thresholded."""
METRICS = ("pointing", "energy", *(f"IoU@{share}" for share in SHARES))
NULLS = ("centered_gaussian", "random")
SPREAD = 0.25
"""Standard deviation of the centered Gaussian, in sides of the picture."""
SHUFFLES = 4
Masks = Bool[np.ndarray, "pairs side side"]
Values = Float[np.ndarray, "pairs metrics"]
Resamples = Float[np.ndarray, "replicates findings columns"]
COLUMNS: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "patient_id": pl.String(),
    "finding": pl.String(),
    "weight": pl.Float64(),
    "boxes": pl.Int64(),
    "area": pl.Float64(),
}
"""Columns of the table before `<map>/<metric>`: one row per image and finding with a box."""
METHOD = (
    "region: the boxes of a finding on an image, or its mask. pointing: share of images whose map is highest inside "
    "the region (Zhang et al., IJCV 2018, without tolerance; ties count in part). energy: share of the map inside the "
    "region (Wang et al., CVPR Workshops 2020). IoU@t: overlap of the region with where the map is at least t times "
    "its maximum. A map without a maximum counts as one that prefers no place. centered_gaussian: one map for all, "
    f"standard deviation {SPREAD} sides. random: the map's own cells, shuffled, mean of {SHUFFLES}."
)


def box_mask(boxes: Float[np.ndarray, "boxes 4"], side: int = SIDE) -> Bool[np.ndarray, "{side} {side}"]:
    """The pixels whose center is in a box, and of each box at least the pixel at its center.

    Boxes are x, y, w, h in fractions of the image, origin at the top left.
    """
    mask = np.zeros((side, side), bool)
    for x, y, width, height in boxes:
        left, right = (np.ceil(np.array([x, x + width]) * side - 0.5)).astype(int).clip(0, side)
        top, bottom = (np.ceil(np.array([y, y + height]) * side - 0.5)).astype(int).clip(0, side)
        mask[top:bottom, left:right] = True
        row, column = (min(int(middle * side), side - 1) for middle in (y + height / 2, x + width / 2))
        mask[row, column] = True
    return mask


def at_side(mask: Bool[np.ndarray, "height width"], side: int = SIDE) -> Bool[np.ndarray, "{side} {side}"]:
    """A mask, with at least one pixel, resized by nearest neighbor; a mask too thin for any pixel keeps its middle."""
    rows, columns = (((np.arange(side) + 0.5) * pixels / side).astype(int) for pixels in mask.shape)
    resized = mask[np.ix_(rows, columns)]
    if not resized.any():
        middle = [(places.mean() + 0.5) / pixels for places, pixels in zip(np.nonzero(mask), mask.shape, strict=True)]
        resized[tuple(int(coordinate * side) for coordinate in middle)] = True
    return resized


def measure(maps: Float[np.ndarray, "pairs side side"], masks: Masks) -> Values:
    """Every metric of `METRICS` for pairs of a map (not negative, on any scale) and a region (not empty)."""
    flat, inside = maps.reshape(len(maps), -1), masks.reshape(len(maps), -1)
    flat = np.where(flat.max(1, keepdims=True) > 0, flat, 1.0)
    highest = flat.max(1, keepdims=True)
    top = flat >= highest * (1 - 1e-6)
    values = [(top & inside).sum(1) / top.sum(1), (flat * inside).sum(1) / flat.sum(1)]
    for share in SHARES:
        region = flat >= share * highest
        values.append((region & inside).sum(1) / (region | inside).sum(1))
    return np.stack(values, axis=1).astype(np.float64)


def centered_gaussian(side: int = SIDE) -> Float[np.ndarray, "{side} {side}"]:
    """The null of a reader who always points at the middle of the image."""
    away = ((np.arange(side) + 0.5) / side - 0.5) / SPREAD
    fall = np.exp(-(away**2) / 2)
    return np.outer(fall, fall)


def measure_shuffled(
    grids: Float[np.ndarray, "pairs rows columns"],
    masks: Masks,
    generators: Sequence[np.random.Generator],
    resize: Float[np.ndarray, "side rows"],
) -> Values:
    """The null of random maps: the cells of each map shuffled, so that it is as sparse; mean of `SHUFFLES` shuffles.

    `grids` are maps on the square grid of the network; `resize` has the weights of the cells of a row for each pixel of
    a row of the masks.
    """
    cells = grids.reshape(len(grids), -1)
    values = np.zeros((len(grids), len(METRICS)))
    for _ in range(SHUFFLES):
        shuffled = np.stack([rng.permutation(grid) for rng, grid in zip(generators, cells, strict=True)])
        values += measure(resize @ shuffled.reshape(grids.shape).astype(np.float32) @ resize.T, masks) / SHUFFLES
    return values


def evaluate_localization(
    table: pl.DataFrame,
    groups: Mapping[str, str | None],
    *,
    regions: Regions = "boxes",
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Means per finding and over findings, with patient-level intervals and differences from both nulls.

    `table` has `COLUMNS`, then `<kind>/<metric>` and `<kind>:random/<metric>` of every kind of map, and
    `centered_gaussian/<metric>`; at least one row. `groups` maps every finding, in the order of the result, to its
    group; `replicates` and `seed` are of the patient bootstrap.

    Returns:
        The entry `localization` of `trcgl.evaluation/1`.
    """
    random = ":random/pointing"
    kinds = [column.removesuffix(random) for column in table.columns if column.endswith(random)]
    sources = [*kinds, *(f"{kind}:random" for kind in kinds), "centered_gaussian"]
    columns = [f"{source}/{metric}" for source in sources for metric in METRICS]
    patients, owner = np.unique(table["patient_id"].to_numpy(), return_inverse=True)
    names = [name for name in groups if (table["finding"] == name).any()]
    place = np.array([names.index(name) for name in table["finding"]])
    weight = table["weight"].to_numpy()
    values = table.select(columns).to_numpy().astype(np.float64)
    means = np.stack(
        [np.average(values[place == column], axis=0, weights=weight[place == column]) for column in range(len(names))]
    )
    samples = _resampled(values, weight, place, owner, (len(patients), len(names)), replicates, seed)
    findings: dict[str, Any] = {}
    freedom = []
    for column, name in enumerate(names):
        rows = place == column
        present = np.ones(rows.sum())
        freedom.append(effective_patients(present, owner[rows], weight[rows]) - 1)
        own_patients = len(np.unique(owner[rows]))
        findings[name] = {
            "group": groups[name],
            "images": int(rows.sum()),
            "patients": own_patients,
            "few": own_patients < FEW,
            "area": float(np.average(table["area"].to_numpy()[rows], weights=weight[rows])),
            **_summary(kinds, columns, means[column : column + 1], samples[:, [column]], np.array(freedom[-1:])),
        }
    return {
        "images": table["image_id"].n_unique(),
        "patients": len(patients),
        "boxes": int(table["boxes"].sum()),
        "regions": regions,
        "kinds": list(kinds),
        "overall": _summary(kinds, columns, means, samples, np.array(freedom)),
        "findings": findings,
        "side": SIDE,
        "method": METHOD,
    }


def _resampled(
    values: Float[np.ndarray, "rows columns"],
    weight: Rows,
    place: np.ndarray,
    owner: np.ndarray,
    shape: tuple[int, int],
    replicates: int,
    seed: int,
) -> Resamples:
    """Weighted means of every finding on every replicate, NaN where no patient of the finding was resampled."""
    patients, findings = shape
    total = np.zeros((patients, findings, values.shape[1]))
    mass = np.zeros((patients, findings))
    np.add.at(total, (owner, place), weight[:, None] * values)
    np.add.at(mass, (owner, place), weight)
    parts = []
    for first in range(0, replicates, CHUNK):
        chunk = range(first, min(first + CHUNK, replicates))
        counts = np.stack([resample_patients(patients, seed, replicate) for replicate in chunk]).astype(np.float64)
        sums = (counts @ total.reshape(patients, -1)).reshape(len(chunk), findings, -1)
        with np.errstate(invalid="ignore"):  # 0 / 0: this replicate leaves the finding undefined
            parts.append(sums / (counts @ mass)[..., None])
    return np.concatenate(parts)


def _summary(
    kinds: Sequence[str],
    columns: list[str],
    means: Float[np.ndarray, "findings columns"],
    samples: Resamples,
    freedom: Float[np.ndarray, " findings"],
) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for kind in kinds:
        summary[kind] = {}
        for metric in METRICS:
            own = columns.index(f"{kind}/{metric}")
            mean = mean_over_findings(means[:, own], samples[..., own], freedom)
            mean["against"] = {}
            for null in NULLS:
                other = columns.index(f"{kind}:random/{metric}" if null == "random" else f"{null}/{metric}")
                gap = samples[..., own] - samples[..., other]
                difference = mean_over_findings(means[:, own] - means[:, other], gap, freedom, difference_interval)
                value = float(means[:, other].mean())
                mean["against"][null] = {"value": value, "difference": difference["value"], "ci": difference["ci"]}
            summary[kind][metric] = mean
    return summary
