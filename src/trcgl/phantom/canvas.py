"""A square of pixels in body coordinates, and the primitives from which phantoms are rendered.

Body coordinates are in sides of the image: x is 0 in the midline and positive towards the patient's left (the right of
the picture), y runs from 0 at the top of the picture to 1 at its bottom. The pose (rotation, magnification, shift)
maps them to pixels. Every primitive returns a layer in [0, 1] whose edges are soft over a pixel.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter

Layer = Float[np.ndarray, "size size"]
Pair = tuple[float, float]
Points = Float[np.ndarray, "*shape"]


@dataclass(frozen=True)
class Pose:
    """Position of the patient before the detector."""

    tilt: float = 0.0  # clockwise rotation in radians
    zoom: float = 1.0  # magnification
    shift: Pair = (0.0, 0.0)  # (right, down) in sides of the image


class Canvas:
    """Pixel centers in body coordinates."""

    def __init__(self, size: int, pose: Pose) -> None:
        self.size, self.pose = size, pose
        self.pixel = 1 / (size * pose.zoom)
        """Side of a pixel in body coordinates."""
        line = ((np.arange(size) + 0.5) / size).astype(np.float32)
        right = (line - 0.5 - pose.shift[0]) / pose.zoom
        down = (line - 0.5 - pose.shift[1]) / pose.zoom
        cos, sin = np.cos(pose.tilt), np.sin(pose.tilt)
        self.x: Layer = np.float32(cos) * right[None] + np.float32(sin) * down[:, None]
        self.y: Layer = np.float32(cos) * down[:, None] - np.float32(sin) * right[None] + 0.5

    @cached_property
    def aside(self) -> Layer:
        """Distance from the midline, |x|."""
        return np.abs(self.x)

    @cached_property
    def patients_left(self) -> Bool[np.ndarray, "size size"]:
        """True in the patient's left half."""
        return self.x > 0

    def inside(self, distance: Layer, softness: float = 0.0) -> Layer:
        """1 where a signed distance is negative, 0 where positive, soft over a pixel plus `softness`."""
        return np.clip(0.5 - distance * np.float32(1 / (self.pixel + softness)), 0, 1)

    def radius(self, center: Pair, axes: Pair, angle: float = 0.0) -> Layer:
        """1 on an ellipse, 0 in its center; `angle` turns its first axis clockwise."""
        dx, dy = self.x - np.float32(center[0]), self.y - np.float32(center[1])
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        along = (cos * dx + sin * dy) * np.float32(1 / axes[0])
        across = (cos * dy - sin * dx) * np.float32(1 / axes[1])
        return np.sqrt(along * along + across * across)

    def disk(self, center: Pair, axes: Pair, angle: float = 0.0, softness: float = 0.0) -> Layer:
        """A filled ellipse."""
        return self.inside((self.radius(center, axes, angle) - 1) * np.float32(min(axes)), softness)

    def strokes(
        self,
        paths: Float[np.ndarray, "paths points 2"],
        width: float,
        weight: Float[np.ndarray, "#paths points"] | float = 1.0,
    ) -> Layer:
        """Curves of equal width through (x, y) points, joined by straight lines.

        A curve thinner than a pixel is as faint as its share of the pixel, as on a detector.
        """
        paths = np.asarray(paths, np.float64)
        weight = np.broadcast_to(np.asarray(weight, np.float64), paths.shape[:2])
        column, row = self.to_pixels(paths[..., 0], paths[..., 1])
        pixels = np.hypot(np.diff(column), np.diff(row))
        repeat = max(1, int(np.ceil(pixels.max() * 1.5))) if pixels.size else 1
        part = (np.arange(repeat) + 0.5) / repeat
        column = (column[:, :-1, None] + np.diff(column)[..., None] * part).ravel()
        row = (row[:, :-1, None] + np.diff(row)[..., None] * part).ravel()
        strength = weight[:, :-1, None] + np.diff(weight)[..., None] * part
        strength = (strength * (pixels[..., None] * (width / self.pixel / repeat))).ravel()
        layer = self._splat(column, row, strength)
        if width > self.pixel:
            layer = gaussian_filter(layer, 0.4 * (width / self.pixel - 0.5), mode="constant", truncate=3)
        return layer

    def dots(self, centers: Float[np.ndarray, "dots 2"], radii: Float[np.ndarray, " dots"]) -> Layer:
        """Small disks; a disk smaller than a pixel is as faint as its share of the pixel."""
        layer = np.zeros((self.size, self.size), np.float32)
        for center, radius in zip(centers, radii, strict=True):
            seen = max(radius, 0.6 * self.pixel)
            dot = self.inside(self.radius((center[0], center[1]), (seen, seen)) * np.float32(seen) - np.float32(seen))
            layer = np.maximum(layer, dot * np.float32(min(1.0, (radius / seen) ** 2)))
        return layer

    def clouds(self, rng: np.random.Generator, grain: float, octaves: int = 2) -> Layer:
        """Smooth random texture of mean 0 and standard deviation about 1; `grain` is the size of its structures."""
        layer = np.zeros((self.size, self.size), np.float32)
        for octave in range(octaves):
            nodes = max(3, int(2**octave / (grain * self.pose.zoom)) + 3)
            values = rng.standard_normal((nodes, nodes), np.float32)
            layer += self._interpolate(values) * np.float32(0.6**octave)
        return layer

    def row_of(self, x: float, y: float) -> float:
        """Row (pixel centers are integers) of a point in body coordinates."""
        return float(self.to_pixels(np.full(1, x), np.full(1, y))[1][0])

    def below_level(self, x: float, y: float) -> tuple[Float[np.ndarray, "size 1"], float]:
        """1 in the rows below a fluid level through a point, and the height of the level in sides of the image."""
        row = self.row_of(x, y)
        rows = np.arange(self.size, dtype=np.float32)[:, None]
        return np.clip(rows - np.float32(row) + 0.5, 0, 1), (row + 0.5) / self.size

    def to_pixels(self, x: Points, y: Points) -> tuple[Points, Points]:
        """Column and row (pixel centers are integers) of points in body coordinates."""
        pose = self.pose
        cos, sin = np.cos(pose.tilt), np.sin(pose.tilt)
        right = (cos * x - sin * (y - 0.5)) * pose.zoom + pose.shift[0] + 0.5
        down = (sin * x + cos * (y - 0.5)) * pose.zoom + pose.shift[1] + 0.5
        return right * self.size - 0.5, down * self.size - 0.5

    def _splat(self, column: np.ndarray, row: np.ndarray, strength: np.ndarray) -> Layer:
        size = self.size
        keep = (column > -1) & (column < size) & (row > -1) & (row < size)
        column, row, strength = column[keep] + 1, row[keep] + 1, strength[keep]
        left, top = column.astype(np.int64), row.astype(np.int64)
        right_share, below_share = column - left, row - top
        place = top * (size + 2) + left
        places = np.concatenate([place, place + 1, place + size + 2, place + size + 3])
        above, below = strength * (1 - below_share), strength * below_share
        shares = np.concatenate([part * share for part in (above, below) for share in (1 - right_share, right_share)])
        layer = np.bincount(places, shares, (size + 2) ** 2).reshape(size + 2, size + 2)
        return layer[1:-1, 1:-1].astype(np.float32)

    def _interpolate(self, values: Float[np.ndarray, "nodes nodes"]) -> Layer:
        place = np.linspace(1, len(values) - 2.001, self.size)
        start, lines = place.astype(np.int64), np.arange(self.size)
        share = place - start
        basis = np.zeros((self.size, len(values)), np.float32)
        # Quadratic B-splines: smooth, and cheap as two small matrix products.
        basis[lines, start - 1] = 0.5 * (1 - share) ** 2
        basis[lines, start] = 0.5 + share * (1 - share)
        basis[lines, start + 1] = 0.5 * share**2
        return (basis @ values @ basis.T) * 1.8
