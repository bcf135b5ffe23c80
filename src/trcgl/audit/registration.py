"""Is one radiograph a copy of another, mirrored, cropped or brighter? The best correlation over windows of the other.

A cropped copy shows a window of the original, stretched over the whole square. Its pixels are means over rectangles of
the original, so that with margins (top, bottom, left, right) in sides of the image

    copy = A(top, bottom) · original · A(left, right)ᵀ

and matrices A that average. `best_matches` selects candidate originals by thumbnails of a fixed set of windows, all of
them against all queries, then fits the margins of each by Gauss-Newton steps on the correlation of details (Baker &
Matthews 2004, section 3). Correlation ignores brightness and contrast; each query is compared unchanged and mirrored.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from trcgl.generate.near_duplicates import standardize

MOST = 0.06  # largest crop along an axis as a share of the side: 5 % and the rounding to whole pixels

_SIDE = 64  # of the square that two images are compared on
_BLUR = 3.0  # pixels; the difference from the blurred image is detail, the rest is the layout all chests share
_STORED = 96  # larger images are reduced to this side first
_COARSE = 16  # side of a thumbnail
_CANDIDATES = 8  # originals whose windows are compared on the square
_FITTED = 2  # originals whose margins are fitted
_STEPS = 3
_DAMPING = 0.01
_LONGEST = 0.03  # step, in sides
_SMALL = 1e-3  # difference quotient, in sides
_CHUNK, _QUERIES, _TOGETHER = 1024, 512, 32  # originals and queries compared, queries fitted at once

_ALONG = torch.tensor([(0, 0), (0, 0.025), (0.025, 0), (0, 0.05), (0.025, 0.025), (0.05, 0)])
_WINDOWS = torch.cat([_ALONG.repeat_interleave(len(_ALONG), 0), _ALONG.repeat(len(_ALONG), 1)], 1)  # (36, 4)


class Matches(NamedTuple):
    """The best match of each query."""

    row: Int[np.ndarray, " queries"]  # row of the original; -1 if there is none to compare with
    similarity: Float[np.ndarray, " queries"]  # correlation of details, between -1 and 1; -1 if there is none
    mirrored: Bool[np.ndarray, " queries"]  # the query is the mirror image
    # top, bottom, left, right, in sides of the original, cropped from it before it was mirrored
    margins: Float[np.ndarray, "queries 4"]


@torch.inference_mode()
def best_matches(
    query: UInt8[np.ndarray, "queries height width"],
    originals: UInt8[np.ndarray, "store height width"],
    rows: Int[np.ndarray, " rows"] | None = None,
    apart: tuple[Int[np.ndarray, " queries"], Int[np.ndarray, " rows"]] | None = None,
) -> Matches:
    """Find the original that each query resembles most among rows of a store, which may be memory-mapped.

    `apart` holds patient numbers of the queries and of the rows: images of the same patient are not compared.
    """
    rows = np.arange(len(originals)) if rows is None else rows
    found = Matches(
        np.full(len(query), -1), np.full(len(query), -1.0), np.zeros(len(query), bool), np.zeros((len(query), 4))
    )
    if not len(rows) or not len(query):
        return found
    groups = (torch.from_numpy(apart[0]), torch.from_numpy(apart[1])) if apart else None
    places, worth = _candidates(query, originals, rows, groups)
    for start in range(0, len(query), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        fitted = _fit(_square(query[part]), originals, rows, places[part], worth[part])
        for whole, piece in zip(found, fitted, strict=True):
            whole[part] = piece
    return found


@torch.inference_mode()
def pair_similarity(
    query: UInt8[np.ndarray, "pairs height width"], originals: UInt8[np.ndarray, "pairs height width"]
) -> Float[np.ndarray, " pairs"]:
    """Similarity of each query to the original of the same row, as in `best_matches`."""
    found, rows = np.empty(len(query)), np.arange(len(query))
    for start in range(0, len(query), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        places = torch.from_numpy(rows[part])[:, None]
        found[part] = _fit(_square(query[part]), originals, rows, places, torch.zeros(places.shape)).similarity
    return found


def _candidates(
    query: np.ndarray, originals: np.ndarray, rows: np.ndarray, groups: tuple[Tensor, Tensor] | None
) -> tuple[Int[Tensor, "queries candidates"], Float[Tensor, "queries candidates"]]:
    small = torch.cat([_averaged(_square(query[at : at + _CHUNK]), _COARSE) for at in range(0, len(query), _CHUNK)])
    facing = [standardize(thumbnail).flatten(1) for thumbnail in (small, small.flip(-1))]
    count = min(_CANDIDATES, len(rows))
    close, place = torch.full((len(query), count), -2.0), torch.zeros(len(query), count, dtype=torch.int64)
    for first in range(0, len(rows), _CHUNK):
        windows = _window_thumbnails(_square(originals[rows[first : first + _CHUNK]])).transpose(0, 1)
        here = torch.arange(first, first + windows.shape[1])
        for start in range(0, len(query), _QUERIES):
            part = slice(start, start + _QUERIES)
            best = torch.full((len(small[part]), len(here)), -1.0)
            for thumbnails in facing:
                for window in windows:
                    torch.maximum(best, thumbnails[part] @ window.T, out=best)
            if groups:
                best[groups[0][part, None] == groups[1][here][None]] = -2.0
            close[part], chosen = torch.cat([close[part], best], 1).topk(count)
            place[part] = torch.cat([place[part], here.expand(len(best), -1)], 1).gather(1, chosen)
    return place, close


def _fit(
    query: Float[Tensor, "queries side side"],
    originals: np.ndarray,
    rows: np.ndarray,
    places: Int[Tensor, "queries candidates"],
    worth: Float[Tensor, "queries candidates"],
) -> Matches:
    image = _square(originals[rows[places.flatten().numpy()]])  # (q · k, s, s)
    facing = torch.stack([query, query.flip(-1)], 1)  # (q, 2, s, s)
    small = standardize(_averaged(facing, _COARSE)).flatten(2)  # (q, 2, 256)
    detail = _details(_averaged(facing, _SIDE))  # (q, 2, 4096)
    coarse = _window_thumbnails(image).unflatten(0, places.shape)  # (q, k, w, 256)
    near = torch.einsum("qfn,qkwn->qkfw", small, coarse).flatten(2).argmax(-1)  # (q, k)
    turned, start = near // len(_WINDOWS), _WINDOWS[near % len(_WINDOWS)]  # (q, k), (q, k, 4)
    turned_detail = detail.gather(1, turned[..., None].expand(-1, -1, detail.shape[-1]))  # (q, k, 4096)

    similarity, _ = _register(turned_detail.flatten(0, 1), image, start.flatten(0, 1), steps=0)
    similarity = similarity.unflatten(0, places.shape).masked_fill(worth < -1, -1.0)  # (q, k)
    fitted = similarity.topk(min(_FITTED, places.shape[1])).indices  # (q, f)

    each = torch.arange(len(query))
    pick = each[:, None], fitted
    several = turned_detail, image.unflatten(0, places.shape), start
    turned_detail, image, start = (values[pick].flatten(0, 1) for values in several)
    similarity, margins = _register(turned_detail, image, start, steps=_STEPS)
    similarity = similarity.unflatten(0, fitted.shape).masked_fill(worth[pick] < -1, -1.0)
    best = similarity.argmax(1)
    chosen, highest = fitted[each, best], similarity[each, best].numpy()
    return Matches(
        np.where(highest > -1, rows[places[each, chosen].numpy()], -1),
        highest.astype(np.float64),
        turned[each, chosen].numpy().astype(bool),
        margins.unflatten(0, fitted.shape)[each, best].numpy().astype(np.float64),
    )


def _register(
    detail: Float[Tensor, "pairs pixels"],
    original: Float[Tensor, "pairs side side"],
    start: Float[Tensor, "pairs 4"],
    steps: int,
) -> tuple[Float[Tensor, " pairs"], Float[Tensor, "pairs 4"]]:
    """Highest correlation over the steps, and its margins."""
    at, best = start, torch.full((len(detail),), -1.0)
    margins = start
    for step in range(steps + 1):
        above, beside = (_averaging(ends, original.shape[-1], _SIDE) for ends in (margins[:, :2], margins[:, 2:]))
        down, across = above @ original, original @ beside.mT
        seen = _details(down @ beside.mT)
        similarity = (detail * seen).sum(1)
        at = torch.where((similarity > best)[:, None], margins, at)
        best = torch.maximum(best, similarity)
        if step == steps:
            break
        slopes = []
        for axis, shift in ((0, (_SMALL, 0)), (0, (0, _SMALL)), (1, (_SMALL, 0)), (1, (0, _SMALL))):
            moved = _averaging(margins[:, 2 * axis : 2 * axis + 2] + torch.tensor(shift), original.shape[-1], _SIDE)
            slopes.append((_details(down @ moved.mT if axis else moved @ across) - seen) / _SMALL)
        slope = torch.stack(slopes, 2)  # (pairs, pixels, 4)
        curvature = slope.mT @ slope + _DAMPING * torch.eye(4)
        change = torch.linalg.solve(curvature, slope.mT @ (detail - seen)[..., None])[..., 0]
        margins = _inside(margins + change.clamp(-_LONGEST, _LONGEST))
    return best, at


def _inside(margins: Float[Tensor, "pairs 4"]) -> Float[Tensor, "pairs 4"]:
    axes = margins.clamp(min=0).unflatten(1, (2, 2))
    return (axes * (MOST / axes.sum(2, keepdim=True).clamp(min=MOST))).flatten(1)


def _averaging(
    margins: Float[Tensor, "*batch 2"], source: int, target: int
) -> Float[Tensor, "*batch target_pixels source_pixels"]:
    """Matrices whose row i averages the i-th of `target` equal parts of the side within the margins."""
    low, left = margins[..., 0, None, None], 1 - margins.sum(-1)[..., None, None]
    edge = (low + left * torch.arange(target + 1)[:, None] / target) * source  # (..., target + 1, 1)
    before = (edge - torch.arange(source)).clamp(0, 1)  # the share of each pixel that lies before the edge
    return before.diff(dim=-2) * (target / (left * source))


def _averaged(images: Float[Tensor, "*batch side side"], target: int) -> Float[Tensor, "*batch target target"]:
    whole = _averaging(torch.zeros(2), images.shape[-1], target)
    return whole @ images @ whole.T


def _window_thumbnails(images: Float[Tensor, "images side side"]) -> Float[Tensor, "images windows pixels"]:
    along = _averaging(_ALONG, images.shape[-1], _COARSE).flatten(0, 1)  # (6 · 16, s)
    small = along @ images @ along.T  # (n, 6 · 16, 6 · 16)
    small = small.unflatten(2, (-1, _COARSE)).unflatten(1, (-1, _COARSE))  # (n, 6, 16, 6, 16)
    small = small.transpose(2, 3).flatten(1, 2)  # (n, 36, 16, 16)
    return standardize(small).flatten(2)


def _square(images: np.ndarray) -> Float[Tensor, "images side side"]:
    """Gray levels of square images around their mean, reduced if they are large."""
    shown = torch.from_numpy(images.astype(np.float32))
    shown = shown - shown.mean((1, 2), keepdim=True)  # an image without contrast becomes exactly 0
    return _averaged(shown, _STORED) if shown.shape[-1] > _STORED else shown


def _details(images: Float[Tensor, "*batch side side"]) -> Float[Tensor, "*batch pixels"]:
    blur = _blurring(images.shape[-1])
    return standardize(images - blur @ images @ blur.T).flatten(-2)


def _blurring(side: int) -> Float[Tensor, "side side"]:
    """The matrix of a Gaussian blur along one axis; weights inside the border are scaled to sum to 1."""
    place = torch.arange(side)
    weight = torch.exp(-((place[:, None] - place) ** 2) / (2 * _BLUR**2))
    return weight / weight.sum(1, keepdim=True)
