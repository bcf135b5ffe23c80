"""Air in the pleural space: the line of the collapsed lung, the dark rim beyond it, and a level of fluid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from trcgl.audit.structure_lines import STEP, Unrolled, evenly, follow, ridge, sample
from trcgl.audit.thorax import Thorax
from trcgl.phantom.canvas import Layer
from trcgl.phantom.chest import Chest

_DEEPEST = 0.19
"""Sides of the image between chest wall and the most collapsed lung."""
_DENSEST = 1.9
"""Attenuation above which the film shows little contrast."""
_TRIED = 3
"""Rows per side that are tried as a level."""


@dataclass(frozen=True)
class _Rim:
    """One lung unrolled from its chest wall inwards."""

    y: Float[np.ndarray, " places"]  # height at which each ray leaves the chest wall, from the apex down
    depth: Float[np.ndarray, " across"]  # below wall and apex, with round corners
    excess: Unrolled  # excess attenuation of the image


def _depth(
    chest: Chest, aside: Float[np.ndarray, "*shape"], y: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    top = np.maximum(0.85 * (y - chest.anatomy.apex), 0)
    side = np.maximum(chest.lateral(y) - aside, 0)
    return top + side - np.sqrt(top * top + side * side)


def _unroll(thorax: Thorax, left: bool) -> _Rim:
    """Rays from the chest wall to the middle of the lung."""
    chest = thorax.chest
    body, pixel = chest.anatomy, chest.canvas.pixel
    y = np.linspace(body.apex + 0.008, body.dome[left] - 0.005, 100)
    wall = evenly(np.stack([chest.lateral(y), y], -1), pixel)
    middle = np.array([0.07, body.apex + 0.62 * (body.dome[left] - body.apex)])
    along = np.linspace(0, 1, 70)[None, :, None]
    rays = wall[:, None] * (1 - along) + middle * along
    deep = np.maximum.accumulate(_depth(chest, rays[..., 0], rays[..., 1]), axis=1)
    depth = np.arange(0, _DEEPEST, STEP * pixel)
    places = [np.interp(depth, ray, along[0, :, 0]) for ray in deep]
    at = wall[:, None] + (middle - wall[:, None]) * np.array(places)[..., None]
    sign = 1 if left else -1
    return _Rim(wall[:, 1], depth, sample(thorax.excess, chest.canvas, sign * at[..., 0], at[..., 1]))


def _mean(values: Unrolled, where: Bool[np.ndarray, "places across"]) -> Float[np.ndarray, " places"]:
    """Mean along each ray over the places chosen there."""
    mean: Float[np.ndarray, " places"] = (values * where).sum(1) / np.maximum(where.sum(1), 1)
    return mean


def _collapse(thorax: Thorax, left: bool, rim: _Rim, lowest: float, narrow: float, wide: float) -> dict[str, float]:
    """The line of the visceral pleura down to a height: how continuous it is, how far from the wall, how dark beyond.

    Args:
        thorax: the estimated thorax.
        left: whether it is the left side.
        rim: the side unrolled.
        lowest: height down to which the line is followed.
        narrow: smallest distance of the line from the wall at the apex.
        wide: largest distance.
    """
    body = thorax.chest.anatomy
    above = rim.y < lowest
    if above.sum() < 8:
        return {"line": 0.0, "dark beyond": -1.0, "wobble": 9.0, "width": 0.0}
    fall = ((rim.y - body.apex) / (body.dome[left] - body.apex))[above, None]
    depth = rim.depth[None]
    allowed = (depth > narrow * (1 - 0.55 * fall)) & (depth < wide * (1 - 0.35 * fall))
    course = follow(ridge(rim.excess)[above], allowed, enough=0.3)
    width = rim.depth[course.across]
    beyond = (depth > 0.004) & (depth < width[:, None] - 0.010)
    within = (depth > width[:, None] + 0.015) & (depth < width[:, None] + 0.060)
    excess = rim.excess[above]
    there = beyond.any(1) & within.any(1)
    contrast = (_mean(excess, within) - _mean(excess, beyond))[there]
    smooth = np.polyval(np.polyfit(fall[:, 0], width, 2), fall[:, 0])
    return {
        "line": course.faintest,
        "dark beyond": float(np.median(contrast)) if len(contrast) else -1.0,
        "wobble": float((width - smooth).std()),
        "width": float(width.mean()),
    }


def pneumothorax(thorax: Thorax) -> dict[str, float]:
    """A continuous line beside the chest wall down to the diaphragm, with a darker rim beyond it."""
    sides = []
    for left in (False, True):
        rim = _unroll(thorax, left)
        sides.append(_collapse(thorax, left, rim, thorax.chest.anatomy.dome[left] - 0.01, 0.026, 0.15))
    return max(sides, key=lambda side: side["line"])


def _levels(thorax: Thorax, left: bool, top: Layer) -> list[dict[str, float]]:
    """The rows of one side at which most columns turn from dark to bright, best first."""
    chest, canvas = thorax.chest, thorax.chest.canvas
    sign = 1 if left else -1
    step = np.zeros_like(top)
    step[2:-1] = 0.5 * (top[2:-1] + top[3:] - top[:-3] - top[1:-2])
    body, hidden = chest.anatomy, chest.mediastinum > 0.2
    first = int(canvas.row_of(sign * 0.22, body.apex + 0.22))
    last = min(int(canvas.row_of(sign * 0.22, body.dome[left] + 0.08)), canvas.size - 5)
    found = []
    for row in range(first, last):
        aside = sign * canvas.x[row]
        clear = (aside > 0.09) & (chest.lateral(canvas.y[row]) - aside > 0.4 * canvas.pixel) & ~hidden[row]
        columns = np.flatnonzero(clear)
        if len(columns) < 4:
            continue
        steps = step[row, columns]
        apart = step[row - 4 : row + 5, columns].argmax(0) - 4
        found.append(
            {
                "step": float(np.quantile(steps, 0.2)),
                "flat": float((np.abs(apart) <= 1).mean()),
                "uneven": float(steps.std() / max(steps.mean(), 1e-3)),
                "level": row / canvas.size,
                "height": float(canvas.y[row, columns].mean()),
            }
        )
    return sorted(found, key=lambda level: -level["step"])


def hydropneumothorax(thorax: Thorax) -> dict[str, float]:
    """A flat level across one side, and above it the line of a collapsed lung with a darker rim beyond."""
    top = np.minimum(thorax.attenuation, np.float32(_DENSEST))
    found = []
    for left in (False, True):
        rim = _unroll(thorax, left)
        for level in _levels(thorax, left, top)[:_TRIED]:
            above = _collapse(thorax, left, rim, level["height"] - 0.015, 0.055, 0.19)
            found.append({**level, **above, "left": float(left)})
    if not found:
        return {"step": 0.0, "flat": 0.0, "uneven": 9.0, "level": 0.0, "line": 0.0, "wobble": 9.0}
    return max(found, key=lambda level: min(level["step"] / 0.4, level["line"] / 0.12))
