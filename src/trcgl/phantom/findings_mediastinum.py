"""Findings of heart, aorta, esophagus, ribs, clavicles and spine. Each finding is `(chest, rng) -> Change`."""

import numpy as np

from trcgl.phantom.chest import Change, Chest
from trcgl.phantom.skeleton import clavicle_height, clavicles, rib_phase, ribs


def aortic_atheromatosis(chest: Chest, rng: np.random.Generator) -> Change:
    """Calcium in the wall of the aortic knob: a thin, bright, broken arc on its outer edge."""
    c = chest.canvas
    x, y = chest.aortic_knob
    radius = 0.92 * chest.anatomy.knob
    first, last = rng.uniform(-1.9, -1.2), rng.uniform(0.3, 1.0)
    angle = np.linspace(first, last, 25)
    broken = np.where(np.abs(angle - rng.uniform(-0.8, 0.2)) < 0.15, 0.25, 1.0)
    path = np.stack([x + radius * np.cos(angle), y + radius * 1.05 * np.sin(angle)], -1)
    arc = np.minimum(c.strokes(path[None], 0.0085, broken[None]), 1.3)
    strength = np.float32(0.95 * chest.contrast * rng.uniform(0.75, 1.3))
    return Change(strength * arc, arc > 0.3, facts={"arc": path.tolist()})


def hernia(chest: Chest, rng: np.random.Generator) -> Change:
    """A hiatal hernia: a round shadow behind the heart with air above a flat fluid level."""
    c = chest.canvas
    radius = rng.uniform(0.050, 0.085) * chest.extent**0.5
    center = (rng.uniform(0.0, 0.055) + chest.shift, chest.anatomy.dome[1] - rng.uniform(0.55, 0.95) * radius)
    distance = c.radius(center, (radius * rng.uniform(1.0, 1.25), radius), rng.uniform(-0.2, 0.2))
    sac = c.inside((distance - 1) * np.float32(radius), 0.003)
    wall = np.clip(1 - np.abs(distance - 0.97) * np.float32(radius / (0.004 + 0.5 * c.pixel)), 0, 1)
    below, level = c.below_level(center[0], center[1] + rng.uniform(-0.25, 0.25) * radius)
    strength = np.float32(chest.contrast * rng.uniform(0.75, 1.25))
    hollow = c.inside((distance - 0.9) * np.float32(radius), 0.004)
    added = strength * (0.26 * sac + 0.08 * wall - 0.78 * hollow * (1 - below))
    return Change(added, sac > 0.5, facts={"level": level, "radius": radius})


def fracture(chest: Chest, rng: np.random.Generator) -> Change:
    """Broken ribs with a step and callus, or a displaced clavicle."""
    if rng.random() < 0.25:
        return _broken_clavicle(chest, rng)
    c = chest.canvas
    left = bool(rng.random() < 0.5)
    sign = 1 if left else -1
    behind, before = rib_phase(chest)
    first = int(rng.integers(3, 7))
    number = np.rint(behind)
    moved = behind
    callus = np.zeros_like(c.x)
    mask = np.zeros(callus.shape, bool)
    breaks = []
    outward = rng.uniform(0.62, 0.88)
    for rib in range(first, first + int(rng.integers(1, 4))):
        place = float(np.clip(outward + rng.normal(0, 0.03), 0.5, 0.92)) * chest.anatomy.chest
        step = rng.choice([-1, 1]) * rng.uniform(0.30, 0.48) * min(chest.extent, 1.3)
        here = chest.side(left) & (number == rib)
        beyond = c.aside - np.float32(place)
        slipped = np.clip(1 - beyond * (1 / 0.07), 0, 1) * (here & (beyond > 0))
        moved = moved + np.float32(step) * slipped
        height = _rib_height(chest, rib, place)
        callus = np.maximum(callus, c.disk((sign * place, height), (0.020, 0.017), 0.0, 0.010))
        mask |= c.radius((sign * place, height), (0.038, 0.034)) < 1
        breaks.append((sign * place, height))
    gap = np.zeros_like(c.x)
    for x, y in breaks:
        gap = np.maximum(gap, c.disk((x, y), (0.0050, 0.018), rng.uniform(-0.4, 0.4), 0.004))
    stepped = np.float32(0.26 * chest.anatomy.bone) * (ribs(chest, moved, before) - ribs(chest, behind, before))
    healed = rng.uniform(0.2, 1.0)
    strength = np.float32(chest.contrast * rng.uniform(0.8, 1.25))
    added = stepped + strength * (np.float32(0.40 * healed) * callus - np.float32(0.26 * (1.2 - healed)) * gap)
    return Change(added, mask | (np.abs(stepped) > 0.05), facts={"kind": "ribs", "breaks": breaks})


def _rib_height(chest: Chest, rib: int, aside: float) -> float:
    body = chest.anatomy
    outward = aside / body.chest
    arch = outward**2 * 0.14 * body.rib_slope - 0.035 * outward * (1 - outward)
    return body.apex - 0.005 + arch + rib * body.rib_spacing


def _broken_clavicle(chest: Chest, rng: np.random.Generator) -> Change:
    c = chest.canvas
    left = bool(rng.random() < 0.5)
    place = rng.uniform(0.42, 0.68)
    drop = rng.uniform(0.012, 0.026) * chest.extent**0.5
    changed = clavicles(chest, {left: (place, drop)}) - clavicles(chest)
    x = 0.035 + 0.32 * place
    center = (x if left else -x, float(clavicle_height(chest, np.full(1, place))[0]) + drop / 2)
    mask = (c.radius(center, (0.045, 0.038)) < 1) | (np.abs(changed) > 0.1)
    strength = np.float32(0.30 * chest.anatomy.bone * min(1.0 + 0.5 * chest.contrast, 2))
    return Change(strength * changed, mask, facts={"kind": "clavicle", "breaks": [center]})


def vertebral_degenerative_changes(chest: Chest, rng: np.random.Generator) -> Change:
    """Bony beaks beside several discs of the lower thoracic spine, and dense endplates."""
    c, body = chest.canvas, chest.anatomy
    period = body.vertebra
    lowest = int((body.dome[0] + 0.08) / period)
    count = int(rng.integers(4, 8))
    levels = [(index + 0.5) * period for index in range(lowest - count, lowest)]
    paths, plates = [], []
    for y in levels:
        axis = float(0.25 * chest.shift + body.scoliosis * np.sin(y * 2 * np.pi * 0.9))
        for sign in (-1, 1):
            if rng.random() < 0.8:
                reach = rng.uniform(0.020, 0.034) * chest.extent
                for lift in (-1, 1):
                    root = (axis + sign * 0.036, y + lift * 0.014)
                    middle = (axis + sign * 0.047, y + lift * 0.010)
                    paths.append([root, middle, (axis + sign * (0.043 + reach), y + lift * 0.002)])
        for lift in (-1, 1):
            side = y + lift * 0.010
            plates.append([(axis - 0.040, side), (axis, y + lift * 0.0085), (axis + 0.040, side)])
    beaks = np.minimum(c.strokes(np.array(paths), 0.0095), 1.4) if paths else np.zeros_like(c.x)
    dense = np.minimum(c.strokes(np.array(plates), 0.0060), 1.0)
    strength = np.float32(chest.contrast * rng.uniform(0.75, 1.25))
    added = strength * (0.78 * beaks + 0.30 * dense)
    return Change(added, np.maximum(beaks, dense) > 0.3, facts={"levels": levels})
