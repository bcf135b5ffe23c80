"""Thin lines: unroll an image along the expected course of a line, and follow the best bright ridge through it.

The faintest fifth of its length shows whether a line is continuous: speckle has gaps there, and a blurred line stands
out nowhere.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import map_coordinates

from trcgl.phantom.canvas import Canvas, Layer

Unrolled = Float[np.ndarray, "places across"]

STEP = 0.5  # pixels between neighbors across an unrolled line; along it they are about one pixel apart
BESIDE = 3  # steps from a ridge to the ground beside it: 1.5 pixels, as far as a line of one pixel needs
_BEND = 0.01  # cost of a step aside, in attenuation


@dataclass(frozen=True)
class Course:
    """The course of a line."""

    across: Int[np.ndarray, " places"]  # position across the line at every position along it
    # attenuation of the ridge above the background beside it at every position along it
    height: Float[np.ndarray, " places"]

    @property
    def faintest(self) -> float:
        """Height reached by four fifths of the line."""
        return float(np.quantile(self.height, 0.2))

    @property
    def uneven(self) -> float:
        """Unevenness of the height; speckle is far more uneven than a line."""
        return unevenness(self.height)


def unevenness(values: Float[np.ndarray, " places"]) -> float:
    """Standard deviation over the mean."""
    return float(values.std() / max(float(values.mean()), 1e-3))


def sample(
    layer: Layer, canvas: Canvas, x: Float[np.ndarray, "*shape"], y: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """The layer at points in body coordinates."""
    column, row = canvas.to_pixels(np.asarray(x), np.asarray(y))
    sampled: Float[np.ndarray, "*shape"] = map_coordinates(layer, [row, column], order=1, mode="nearest")
    return sampled


def evenly(path: Float[np.ndarray, "points 2"], spacing: float) -> Float[np.ndarray, "places 2"]:
    """Points on a path, `spacing` apart."""
    length = np.append(0, np.cumsum(np.hypot(*np.diff(path, axis=0).T)))
    at = np.linspace(0, length[-1], max(2, round(float(length[-1]) / spacing) + 1))
    return np.stack([np.interp(at, length, path[:, axis]) for axis in (0, 1)], -1)


def beside(
    path: Float[np.ndarray, "places 2"], offsets: Float[np.ndarray, " across"]
) -> Float[np.ndarray, "places across 2"]:
    """Points at distances from a path, positive to the left of its direction as seen in the picture."""
    ahead = np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    aside = np.stack([ahead[:, 1], -ahead[:, 0]], -1)
    return path[:, None] + aside[:, None] * offsets[None, :, None]


def ridge(unrolled: Unrolled) -> Unrolled:
    """Height of each position above the mean of the background on its two sides."""
    height = np.zeros_like(unrolled)
    ground = 0.5 * (unrolled[:, 2 * BESIDE :] + unrolled[:, : -2 * BESIDE])
    height[:, BESIDE:-BESIDE] = unrolled[:, BESIDE:-BESIDE] - ground
    return height


def follow(height: Unrolled, allowed: Bool[np.ndarray, "places across"], *, enough: float) -> Course:
    """The course with the largest sum of heights that moves at most one step aside per place.

    Heights count up to `enough`, so that no single bright spot attracts the line.
    """
    gain = np.where(allowed, np.clip(height, -0.1, enough), -0.3)
    places, across = gain.shape
    best, came = gain[0], np.zeros((places, across), np.int64)
    for place in range(1, places):
        padded = np.pad(best, 1, constant_values=-np.inf)
        options = np.stack([padded[:-2] - _BEND, padded[1:-1], padded[2:] - _BEND])
        chosen = options.argmax(0)
        came[place] = np.arange(across) + chosen - 1
        best = options[chosen, np.arange(across)] + gain[place]
    course = np.empty(places, np.int64)
    course[-1] = int(best.argmax())
    for place in range(places - 1, 0, -1):
        course[place - 1] = came[place, course[place]]
    return Course(course, height[np.arange(places), course])
