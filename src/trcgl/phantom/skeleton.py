"""Spine, ribs, clavicles, scapulae and humeri, as layers over a chest."""

import numpy as np
from jaxtyping import Float

from trcgl.phantom.canvas import Layer
from trcgl.phantom.chest import Chest


def bones(chest: Chest) -> Layer:
    """Attenuation of the skeleton."""
    bone = 0.26 * ribs(chest, *rib_phase(chest))
    bone += 0.27 * spine(chest)
    bone += 0.30 * clavicles(chest)
    bone += 0.26 * shoulders(chest) * chest.body
    return bone * np.float32(chest.anatomy.bone)


def spine(chest: Chest) -> Layer:
    """Vertebral bodies with their discs, and spinous processes."""
    c, body = chest.canvas, chest.anatomy
    x = chest.from_spine
    column = c.inside(np.abs(x) - 0.042, 0.008)
    phase = c.y * np.float32(2 * np.pi / body.vertebra)
    endplates = np.cos(phase)
    pedicles = np.clip(1 - np.abs(np.abs(x) - 0.026) * (1 / 0.009), 0, 1)
    process = np.clip(1 - np.abs(x) * (1 / 0.008), 0, 1)
    return column * (0.72 + 0.20 * endplates - 0.22 * endplates * pedicles + 0.16 * process * (1 - endplates))


def rib_phase(chest: Chest) -> tuple[Layer, Layer]:
    """Number of the posterior and the anterior rib at each pixel, as real numbers: whole on a rib's midline."""
    body, c = chest.anatomy, chest.canvas
    outward = c.aside * np.float32(1 / body.chest)
    arch = outward * outward * np.float32(0.14 * body.rib_slope) - 0.035 * outward * (1 - outward)
    behind = (c.y - np.float32(body.apex - 0.005) - arch) * np.float32(1 / body.rib_spacing)
    gap = np.maximum(1 - outward, 0)
    before = (c.y - np.float32(body.apex + 0.10) - np.float32(0.20 * body.rib_slope + 0.06) * gap) * np.float32(
        1 / (body.rib_spacing * 1.12)
    )
    return behind, before


def ribs(chest: Chest, behind: Layer, before: Layer) -> Layer:
    """The ribs for given rib numbers."""
    c = chest.canvas
    soft = np.float32(chest.anatomy.rib_spacing / (c.pixel + 0.004))
    edge = np.clip((chest.wall_distance + 0.014) * (1 / 0.012), 0, 1)

    def bands(phase: Layer, half: float, last: float) -> Layer:
        away = np.abs(phase - np.rint(phase))
        band = np.clip(0.5 - (away - np.float32(half)) * soft, 0, 1)
        rim = np.clip(1 - np.abs(away - np.float32(half - 0.05)) * (1 / 0.09), 0, 1)
        there = np.clip(phase + 0.5, 0, 1) * np.clip(np.float32(last) - phase, 0, 1)
        return band * (0.7 + 0.5 * rim) * there

    posterior = bands(behind, 0.20, 10.6) * np.clip((c.aside - 0.035) * (1 / 0.02), 0, 1)
    cartilage = np.clip((c.aside - 0.17) * (1 / 0.10), 0, 1)
    anterior = bands(before, 0.21, 6.6) * cartilage
    return edge * (posterior + 0.48 * anterior)


def clavicle_height(chest: Chest, along: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Height of the clavicle's axis, `along` from 0 at the sternum to 1 at the shoulder."""
    bow = np.sin(along * np.float32(2 * np.pi)) * np.float32(0.018)
    return bow - np.float32(0.085) * along + np.float32(chest.anatomy.clavicle)


def clavicles(chest: Chest, displaced: dict[bool, tuple[float, float]] | None = None) -> Layer:
    """Both clavicles; `displaced` maps a side to where its outer part is broken off, and how far it sank."""
    c = chest.canvas
    along = (c.aside - 0.035 - np.sign(c.x) * np.float32(0.6 * chest.shift)) * (1 / 0.32)
    axis = clavicle_height(chest, along)
    for left, (place, drop) in (displaced or {}).items():
        axis = axis + np.where(chest.side(left) & (along > place), np.float32(drop), 0)
    half = 0.0095 + 0.005 * np.abs(along - 0.5)
    away = np.abs(c.y - axis) - half
    shaft = c.inside(away, 0.003)
    cortex = np.clip(1 - np.abs(away + 0.003) * np.float32(1 / (0.004 + c.pixel)), 0, 1)
    ends = c.inside(-along * 0.32, 0.004) * c.inside((along - 1) * 0.32, 0.01)
    for left, (place, _) in (displaced or {}).items():
        gap = np.abs(along - np.float32(place)) * 0.32
        ends = ends * np.where(chest.side(left), np.clip(gap / np.float32(0.8 * c.pixel + 0.003), 0, 1), 1)
    return ends * (0.7 * shaft + 0.45 * cortex)


def shoulders(chest: Chest) -> Layer:
    """Scapulae and humeral heads."""
    c, bedside = chest.canvas, chest.exposure.bedside
    inward = 0.045 if bedside else 0.0
    layer = np.zeros_like(c.x)
    for sign in (-1, 1):
        x = sign * c.x + np.float32(inward)
        border = 0.325 + 0.22 * (c.y - 0.14)
        blade = c.inside(border - x, 0.004) * c.inside(x - border - 0.10, 0.05)
        tip = 0.43 - 0.3 * (x - border)
        blade = blade * c.inside(0.12 - c.y, 0.02) * c.inside(c.y - tip, 0.01)
        rim = np.clip(1 - np.abs(x - border - 0.004) * np.float32(1 / (0.006 + c.pixel)), 0, 1)
        layer += blade * (0.35 + 0.5 * rim)
        head = c.disk((sign * (0.475 - inward), 0.135), (0.052, 0.055), 0.0, 0.012)
        shaft = c.disk((sign * (0.520 - inward), 0.32), (0.027, 0.20), sign * -0.10, 0.010)
        acromion = c.disk((sign * (0.40 - inward), 0.075), (0.05, 0.016), sign * 0.25, 0.006)
        layer = np.maximum(layer, 0.6 * np.maximum(head, shaft))
        layer = np.maximum(layer, 0.8 * acromion)
    return layer
