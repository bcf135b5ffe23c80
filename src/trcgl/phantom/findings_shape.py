"""Findings that change the anatomy: size of the heart, height of the diaphragm, bend of the spine.

Each has a function `(anatomy, rng, extent) -> anatomy`, and a function for its mask, `(chest, before) -> mask`, with
the chest after and before the change.
"""

from dataclasses import replace

import numpy as np

from trcgl.phantom.anatomy import Anatomy
from trcgl.phantom.canvas import Pair
from trcgl.phantom.chest import Chest, Mask


def _shifted(pair: Pair, by: float) -> Pair:
    return pair[0] + by, pair[1] + by


def _scaled(pair: Pair, factor: float) -> Pair:
    return pair[0] * factor, pair[1] * factor


def cardiomegaly(anatomy: Anatomy, rng: np.random.Generator, extent: float) -> Anatomy:
    """A heart wider than half of the rib cage."""
    ratio = 0.50 + rng.uniform(0.01, 0.14) * extent
    grown = max(ratio * 2 * anatomy.chest / sum(anatomy.heart), 1.05)
    height = anatomy.heart_height * (1 + 0.35 * (grown - 1))
    return replace(anatomy, heart=_scaled(anatomy.heart, grown), heart_height=height)


def aortic_elongation(anatomy: Anatomy, rng: np.random.Generator, extent: float) -> Anatomy:
    """A large knob, and an ascending and descending aorta that bulge into the lungs."""
    more = rng.uniform(0.4, 1.1) * extent
    return replace(anatomy, knob=anatomy.knob * (1 + 0.24 * more), unfolding=anatomy.unfolding + 0.020 * more)


def kyphosis(anatomy: Anatomy, rng: np.random.Generator, extent: float) -> Anatomy:
    """A bent thoracic spine: steep, crowded ribs, short vertebrae, chin and neck over the apices."""
    more = rng.uniform(0.55, 1.25) * extent
    return replace(
        anatomy,
        apex=anatomy.apex + 0.028 * more,
        chin=anatomy.chin + 0.45 * more,
        rib_slope=anatomy.rib_slope * (1 + 0.45 * more),
        rib_spacing=anatomy.rib_spacing * (1 - 0.12 * more),
        vertebra=anatomy.vertebra * (1 - 0.20 * more),
        clavicle=anatomy.clavicle + 0.025 * more,
        chest=anatomy.chest * (1 + 0.03 * more),
    )


def hemidiaphragm_elevation(anatomy: Anatomy, rng: np.random.Generator, extent: float) -> Anatomy:
    """One dome of the diaphragm well above its usual height."""
    rise = rng.uniform(0.05, 0.14) * extent
    left = rng.random() < 0.45
    right_dome, left_dome = anatomy.dome
    return replace(anatomy, dome=(right_dome, left_dome - rise - 0.018) if left else (right_dome - rise, left_dome))


def hypoexpansion(anatomy: Anatomy, rng: np.random.Generator, extent: float) -> Anatomy:
    """Short lungs: high domes, crowded vessels and ribs, a broad heart."""
    more = rng.uniform(0.6, 1.3) * extent
    return replace(
        anatomy,
        dome=_shifted(anatomy.dome, -0.075 * more),
        heart=_scaled(anatomy.heart, 1 + 0.06 * more),
        vessels=anatomy.vessels * (1 + 0.15 * more),
        air=anatomy.air * (1 - 0.05 * more),
    )


def hyperinflated_lung(anatomy: Anatomy, rng: np.random.Generator, extent: float) -> Anatomy:
    """Long lungs over flat, low domes; a narrow, hanging heart."""
    more = rng.uniform(0.6, 1.3) * extent
    flat = max(1 - 0.65 * more, 0.1)
    return replace(
        anatomy,
        dome=_shifted(anatomy.dome, 0.030 * more),
        curve=_scaled(anatomy.curve, flat),
        heart=_scaled(anatomy.heart, 1 - 0.11 * more),
        heart_height=anatomy.heart_height * (1 + 0.08 * more),
        air=anatomy.air * (1 + 0.035 * more),
        apex=anatomy.apex - 0.008 * more,
        rib_spacing=anatomy.rib_spacing * (1 + 0.05 * more),
    )


def emphysematous(anatomy: Anatomy, rng: np.random.Generator, extent: float) -> Anatomy:
    """The anatomical part of emphysema: somewhat flattened domes."""
    more = rng.uniform(0.3, 0.9) * extent
    dome, curve = _shifted(anatomy.dome, 0.022 * more), _scaled(anatomy.curve, 1 - 0.35 * more)
    return replace(anatomy, dome=dome, curve=curve)


def vascular_hilar_enlargement(anatomy: Anatomy, rng: np.random.Generator, extent: float) -> Anatomy:
    """Wide hilar vessels, on both sides or mainly on the left or right."""
    grow = 1 + rng.uniform(0.35, 0.85) * extent
    other = grow if rng.random() < 0.6 else 1.1
    right, left = (grow, other) if rng.random() < 0.5 else (other, grow)
    hilum = (anatomy.hilum[0] * right, anatomy.hilum[1] * left)
    return replace(anatomy, hilum=hilum, vessels=anatomy.vessels * (1 + 0.12 * extent))


def where_aorta(chest: Chest, before: Chest) -> Mask:
    """Mask of the aortic knob and of the ascending and descending aorta, without the part that the spine covers."""
    c = chest.canvas
    beside = (np.abs(c.x - chest.shift) > 0.035) | (chest.great_vessels > 0.5)
    upper = c.y < chest.heart_center + 0.05
    return (np.maximum(chest.great_vessels, chest.descending_aorta) > 0.5) & beside & upper


def where_bent(chest: Chest, before: Chest) -> Mask:
    """Thoracic spine, and neck and apices below the chin."""
    c = chest.canvas
    spine = (np.abs(chest.from_spine) < 0.045) & (c.y < chest.anatomy.dome[0])
    return spine | ((c.y < chest.anatomy.apex + 0.09) & (c.aside < 0.24))


def where_raised(chest: Chest, before: Chest) -> Mask:
    """Former lung that now lies below the diaphragm."""
    return (before.above_diaphragm > 0) & (chest.above_diaphragm <= 0) & (chest.wall_distance > 0)


def where_hila(chest: Chest, before: Chest) -> Mask:
    """Enlarged hila."""
    mask = np.zeros_like(chest.canvas.x, bool)
    for left in (False, True):
        if chest.anatomy.hilum[left] > 1.1 * before.anatomy.hilum[left]:
            grown = chest.anatomy.hilum[left]
            mask |= chest.canvas.radius(chest.hilum(left), (0.042 * grown, 0.060 * grown)) < 1
    return mask
