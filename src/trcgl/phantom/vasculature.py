"""Hila and the vessels of the lungs."""

import numpy as np

from trcgl.phantom.canvas import Layer
from trcgl.phantom.chest import Chest


def pulmonary_vessels(chest: Chest, rng: np.random.Generator) -> Layer:
    """Hila and pulmonary vessels over open lung."""
    c, body = chest.canvas, chest.anatomy
    layer = np.zeros_like(c.x)
    large, small = zip(*(_tree(chest, rng, left) for left in (False, True)), strict=True)
    for left in (False, True):
        x, y = chest.hilum(left)
        grown = body.hilum[left]
        sign = 1 if left else -1
        layer += 0.80 * c.disk((x, y), (0.030 * grown, 0.046 * grown), sign * -0.35, 0.028)
        tail = c.disk((x + sign * 0.012, y + 0.055), (0.017 * grown, 0.050), sign * -0.30, 0.016)
        layer += 0.75 * tail
    fade = np.linspace(1, 0.22, large[0].shape[1])[None]
    layer += 1.15 * c.strokes(np.concatenate(large), 0.0115, fade)
    thin = np.linspace(1, 0.3, small[0].shape[1])[None]
    layer += c.strokes(np.concatenate(small), 0.0062, thin)
    return layer * chest.lung * np.float32(0.24 * body.vessels)


def _tree(chest: Chest, rng: np.random.Generator, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Branches (B, n, 2) from the hilum to the pleura and twigs (T, m, 2) off them."""
    x, y = chest.hilum(left)
    sign = 1 if left else -1
    count, twigs_per, body = 10, 4, chest.anatomy
    angle = np.linspace(-1.45, 1.42, count) + rng.uniform(-0.12, 0.12, count)
    bend = rng.uniform(-0.35, 0.35, count) + 0.15 * np.sign(angle)
    reach = np.where(angle < 0, y - body.apex, body.dome[left] - y)[:, None] * np.abs(np.sin(angle))[:, None]
    across = (body.chest - 0.09) * np.abs(np.cos(angle))[:, None]
    length = np.sqrt(reach**2 + across**2) * rng.uniform(0.72, 0.92, (count, 1))
    t = np.linspace(0, 1, 9)[None]
    heading = angle[:, None] + bend[:, None] * t
    start_x = x + sign * 0.012 * np.cos(angle)[:, None]
    start_y = y + 0.035 * np.sin(angle)[:, None]
    paths = np.stack([start_x + sign * length * t * np.cos(heading), start_y + length * t * np.sin(heading)], -1)
    where = rng.integers(2, 7, (count, twigs_per))
    origin = paths[np.arange(count)[:, None], where]
    off = np.where(rng.random((count, twigs_per)) < 0.5, -1, 1) * rng.uniform(0.4, 0.9, (count, twigs_per))
    course = heading[np.arange(count)[:, None], where] + off
    span = length * rng.uniform(0.22, 0.45, (count, twigs_per))
    s = np.linspace(0, 1, 5)
    curve = course[..., None] - 0.4 * np.sign(off)[..., None] * s
    along = span[..., None] * s
    twigs = np.stack(
        [origin[..., 0, None] + sign * along * np.cos(curve), origin[..., 1, None] + along * np.sin(curve)], -1
    )
    return paths, twigs.reshape(count * twigs_per, 5, 2)
