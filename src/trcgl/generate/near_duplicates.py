"""Find near duplicates by the correlation of thumbnails, of an image or its mirror image.

Every pair is compared, in chunks of matrix products: 10,000 synthetic against 100,000 real images take 2 × 10¹²
operations, about a minute on a few cores.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

SIDE = 32  # side of a thumbnail in pixels: radiographs of different patients look alike at coarser scales

Thumbnails = Float[Tensor, "rows side side"]
RowNumbers = Int[np.ndarray, " rows"]

_IMAGES = 256  # images reduced at once
_PRODUCTS = 2**25  # correlations held in memory at once


def thumbnails(images: UInt8[np.ndarray, "store height width"], rows: RowNumbers | None = None) -> Thumbnails:
    """Thumbnails with mean 0 and length 1, so that products are correlations; all 0 for an image without contrast."""
    rows = np.arange(len(images)) if rows is None else rows
    small = [torch.empty(0, SIDE, SIDE)]
    for start in range(0, len(rows), _IMAGES):
        batch = torch.from_numpy(images[rows[start : start + _IMAGES]])[:, None].float()
        small.append(functional.interpolate(batch, (SIDE, SIDE), mode="area")[:, 0])
    return standardize(torch.cat(small))


def standardize(images: Float[Tensor, "*batch height width"]) -> Float[Tensor, "*batch height width"]:
    """Give each image mean 0 and length 1, so that products are correlations; 0 where it has no contrast."""
    images = images - images.mean((-2, -1), keepdim=True)
    length = images.norm(dim=(-2, -1), keepdim=True)
    return torch.where(length > 1e-3, images / length.clamp(min=1e-3), 0.0)


def nearest(
    query: Thumbnails,
    reference: Float[Tensor, "references side side"],
    apart: tuple[RowNumbers, Int[np.ndarray, " references"]] | None = None,
) -> Float[np.ndarray, " rows"]:
    """Correlation of each thumbnail, or its mirror image, with the nearest reference; -1 if there is none.

    `apart`: patient numbers of the queries and of the references; images of the same patient are not compared.
    """
    found = torch.full((len(query),), -1.0)
    if not len(reference):
        return found.numpy()
    groups = [torch.from_numpy(patients) for patients in apart] if apart else None
    step = max(1, _PRODUCTS // len(reference))
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        close = _correlation(query[part], reference)
        if groups:
            close[groups[0][part, None] == groups[1][None]] = -1.0
        found[part] = close.max(1).values
    return found.numpy()


def paired(query: Thumbnails, reference: Thumbnails) -> Float[np.ndarray, " rows"]:
    """Correlation of each thumbnail, or its mirror image, with the reference of the same row."""
    return torch.maximum((query * reference).sum((1, 2)), (query.flip(-1) * reference).sum((1, 2))).numpy()


def nearest_repeat(images: Thumbnails, patient: RowNumbers, rows: RowNumbers) -> Float[np.ndarray, " asked"]:
    """Correlation of some images with the nearest other image of the same patient; -1 if there is none."""
    order = np.argsort(patient, kind="stable")
    first, last = (np.searchsorted(patient[order], patient[rows], side) for side in ("left", "right"))
    found = np.full(len(rows), -1.0, np.float32)
    for place, row in enumerate(rows):
        others = order[first[place] : last[place]]
        others = others[others != row]
        if len(others):
            found[place] = _correlation(images[row][None], images[torch.from_numpy(others)]).max()
    return found


def repeats(
    images: Thumbnails,
    candidates: Bool[np.ndarray, " rows"],
    limit: float,
    same: tuple[RowNumbers, float] | None = None,
) -> tuple[Float[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Find candidates that nearly repeat an earlier candidate; the first of them stays.

    `limit`: correlation above which an image repeats another. `same`: number of the patient of each image's pixel
    source, and the limit for two images whose pixel sources are of the same patient.

    Returns:
        Correlation with the nearest earlier image that stays (NaN if none does), and which rows repeat such an image.
    """
    similarity = np.full(len(images), np.nan, np.float32)
    repeated = np.zeros(len(images), bool)
    places = np.flatnonzero(candidates)
    chosen = images[torch.from_numpy(places)]
    source, limit_of_source = (np.arange(len(places)), limit) if same is None else (same[0][places], same[1])
    stays = np.zeros(len(places), bool)
    step = max(1, min(_IMAGES, _PRODUCTS // max(1, len(places))))
    for start in range(0, len(places), step):
        # Up to the last row of the chunk; which rows of the chunk stay is decided row by row.
        close = _correlation(chosen[start : start + step], chosen[: start + step]).numpy()
        for row, correlation in enumerate(close, start):
            earlier = correlation[:row][stays[:row]]
            if len(earlier):
                similarity[places[row]] = earlier.max()
            limits = np.where(source[:row][stays[:row]] == source[row], limit_of_source, limit)
            stays[row] = not (earlier > limits).any()
            repeated[places[row]] = not stays[row]
    return similarity, repeated


def _correlation(query: Tensor, reference: Tensor) -> Tensor:
    reference = reference.flatten(1).T
    return torch.maximum(query.flatten(1) @ reference, query.flip(-1).flatten(1) @ reference)
