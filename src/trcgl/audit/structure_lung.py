"""Findings within the lungs: the azygos fissure, calcified dots, and the shape of hyperinflated lungs."""

import numpy as np
from scipy.ndimage import grey_opening, maximum_filter

from trcgl.audit.structure_lines import STEP, beside, evenly, follow, ridge, sample
from trcgl.audit.thorax import Thorax

_ASIDE = 0.11
"""Largest distance of the fissure from its mean course."""


def azygos_fissure(thorax: Thorax) -> dict[str, float]:
    """A thin continuous line in the right upper lung, convex to the side."""
    chest, body, canvas = thorax.chest, thorax.chest.anatomy, thorax.chest.canvas
    start, bow = np.array([-0.165, body.apex + 0.012]), np.array([-0.25, body.apex + 0.11])
    end = np.array([-0.0825 + chest.shift, body.apex + 0.195])
    t = np.linspace(0, 1, 50)[:, None]
    path = evenly(start * (1 - t) ** 2 + 2 * bow * t * (1 - t) + end * t**2, canvas.pixel)
    offsets = np.arange(-_ASIDE, _ASIDE, STEP * canvas.pixel)
    at = beside(path, offsets)
    height = ridge(sample(thorax.excess, canvas, at[..., 0], at[..., 1]))[1:-2]
    course = follow(height, np.ones(height.shape, bool), enough=0.25)
    return {
        "line": course.faintest,
        "uneven": course.uneven,
        "aside": float(abs(offsets[course.across].mean())),
    }


_LENGTH, _LENGTH_SPREAD = 0.784, 0.050
_HEART, _HEART_SPREAD = 0.456, 0.054
"""Mean and standard deviation of the estimates for phantoms without the finding, with any other."""


def hyperinflation(thorax: Thorax) -> dict[str, float]:
    """Flat domes; and long lungs with a narrow heart, in standard deviations from thoraces without the finding.

    Length is from apex to domes, the heart's width is its own, both over the width of the chest.
    """
    body = thorax.chest.anatomy
    length = (np.mean(body.dome) - body.apex) / (2 * body.chest)
    heart = sum(body.heart) / (2 * body.chest)
    slender = (length - _LENGTH) / _LENGTH_SPREAD - (heart - _HEART) / _HEART_SPREAD
    return {
        "curve": float(np.mean(body.curve)),
        "slender": float(slender),
        "length": float(length),
        "heart": float(heart),
    }


_CLUSTER = 0.10
"""Sides of the image from the middle of a cluster of dots to its outermost."""
_DOT = 0.022
"""Side of the square that one dot fills, blurred by the film."""
_BRIGHT = 0.35
"""Least attenuation of a dot above the ground around it."""


def calcified_dots(thorax: Thorax) -> dict[str, float]:
    """A cluster of small, compact, very bright dots in a lung, at a hilum or in the chest wall."""
    chest, canvas = thorax.chest, thorax.chest.canvas
    size = canvas.size
    excess = np.clip(thorax.excess, -1, 3)
    wide = 2 * round(0.035 * size) + 1
    where = (chest.wall_distance > -0.085) & (chest.above_diaphragm > -0.03) & (canvas.y > chest.anatomy.apex)
    where &= (canvas.aside > 0.055) & (chest.body > 0.9)
    height = np.where(where, excess - grey_opening(excess, (wide, wide)), 0)
    row, column = np.nonzero((height == maximum_filter(height, 3)) & (height > _BRIGHT))
    if not len(row):
        return {"bright": 0.0, "dots": 0.0, "area": 99.0, "whole": 99.0}
    peak = height[row, column]
    near = np.hypot(row[:, None] - row, column[:, None] - column) < _CLUSTER * size
    cluster = near[(near * np.minimum(peak, 2)).sum(1).argmax()]
    bright = float(np.sort(peak[cluster])[-3:].mean())
    strong = cluster & (peak > 0.5 * bright)
    middle = (np.average(row[strong], weights=peak[strong]), np.average(column[strong], weights=peak[strong]))
    rows, columns = np.indices(height.shape)
    disc = np.hypot(rows - middle[0], columns - middle[1]) < _CLUSTER * size
    whole = float((disc & (height > 0.5 * bright)).sum() / (_DOT * size) ** 2)
    return {
        "bright": bright,
        "dots": float(strong.sum()),
        "area": whole / float(strong.sum()),
        "whole": whole,
    }
