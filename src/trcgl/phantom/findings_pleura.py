"""Fluid and air around the lungs, under the diaphragm and under the skin. Each finding is `(chest, rng) -> Change`.

A fluid level is horizontal in the room: flat in the image however the patient leans.
"""

import numpy as np

from trcgl.phantom.canvas import Layer
from trcgl.phantom.chest import AIR, DOME, Change, Chest


def pleural_effusion(chest: Chest, rng: np.random.Generator) -> Change:
    """Fluid in the costophrenic angle with a meniscus that climbs the chest wall, unilateral or bilateral."""
    left = bool(rng.random() < 0.5)
    sides = (False, True) if rng.random() < 0.3 else (left,)
    c = chest.canvas
    fluid = np.zeros_like(c.x)
    for side in sides:
        height = rng.uniform(0.05, 0.30) ** 1.2 * chest.extent**0.7 + 0.02
        bottom = chest.anatomy.dome[side] + chest.anatomy.curve[side]
        out = np.clip((c.aside - 0.07) * np.float32(1 / (chest.anatomy.chest - 0.07)), 0, 1)
        middle = bottom - np.float32(1.05 * height)
        surface = middle - np.float32(0.35 * height + 0.02) * (out * out - 0.35)
        here = c.inside(surface - c.y, 0.014) * c.inside(-chest.wall_distance) * chest.side(side)
        fluid = np.maximum(fluid, here * np.clip((c.aside - 0.05) * 60, 0, 1))
    depth = np.float32(min(0.92 * chest.contrast * rng.uniform(0.85, 1.1), 1.0))
    added = fluid * (depth * AIR * chest.air + 0.08)
    mask = (fluid * (chest.above_diaphragm > -0.01)) > 0.5
    return Change(added, mask, vessels=1 - fluid, facts={"sides": len(sides)})


def pleural_thickening(chest: Chest, rng: np.random.Generator) -> Change:
    """A bright band along the chest wall, or a cap over the apex; sometimes with a calcified plaque."""
    c, body = chest.canvas, chest.anatomy
    apical = rng.random() < 0.45
    left = bool(rng.random() < 0.5)
    here = np.ones_like(c.x) if apical and rng.random() < 0.5 else chest.side(left).astype(np.float32)
    thick = rng.uniform(0.016, 0.034) * chest.extent**0.5
    wavy = 1 + 0.25 * np.sin(c.y * np.float32(rng.uniform(30, 60)))
    if apical:
        depth = np.minimum(chest.wall_distance, 0.85 * (c.y - np.float32(body.apex)))
        reach = c.inside(c.y - np.float32(body.apex + 0.085), 0.03)
    else:
        depth = chest.wall_distance
        high = rng.uniform(0.30, 0.50)
        reach = c.inside(np.float32(high) - c.y, 0.04) * c.inside(
            c.y - np.float32(high + rng.uniform(0.18, 0.35)), 0.04
        )
    band = c.inside(depth - np.float32(thick) * wavy, 0.003) * chest.lung * here * reach
    added = np.float32(0.52 * chest.contrast * rng.uniform(0.75, 1.25)) * band
    if not apical and rng.random() < 0.3:
        plaque = np.clip(1 - np.abs(depth - np.float32(thick)) * np.float32(1 / (0.004 + 0.5 * c.pixel)), 0, 1)
        added = added + np.float32(0.35 * chest.contrast) * plaque * band
    return Change(added, band > 0.4, facts={"place": "apex" if apical else "wall", "thickness": thick})


def _depth(chest: Chest) -> Layer:
    """Depth below the chest wall and the apex of either lung, with round corners."""
    top = np.maximum(0.85 * (chest.canvas.y - np.float32(chest.anatomy.apex)), 0)
    side = np.maximum(chest.wall_distance, 0)
    return top + side - np.sqrt(top * top + side * side)


def _collapse(chest: Chest, rng: np.random.Generator, left: bool, width: float) -> tuple[Layer, Layer, Layer]:
    """Layers of the rim of free air, the visceral line, and the collapsed lung."""
    c, body = chest.canvas, chest.anatomy
    fall = np.clip((c.y - np.float32(body.apex)) * np.float32(1 / (body.dome[left] - body.apex)), 0, 1)
    edge = np.float32(width) * (1.25 - np.float32(rng.uniform(0.35, 0.8)) * fall)
    beyond = _depth(chest) - edge
    side = chest.side(left) & (chest.above_diaphragm > -c.pixel)
    air = c.inside(beyond) * chest.lung * side
    line = np.clip(1 - np.abs(beyond) * np.float32(1 / (0.0035 + 0.6 * c.pixel)), 0, 1) * chest.lung * side
    return air, line, chest.lung * side * (1 - air)


def pneumothorax(chest: Chest, rng: np.random.Generator) -> Change:
    """A dark rim without vessels between the chest wall and the thin line of the visceral pleura."""
    left = bool(rng.random() < 0.45)
    width = rng.uniform(0.028, 0.085) * chest.extent
    air, line, lung = _collapse(chest, rng, left, width)
    strength = chest.contrast * rng.uniform(0.75, 1.25)
    added = np.float32(0.36 * strength) * line * (1 - 0.3 * air) - np.float32(0.12 * strength) * air
    added = added + np.float32(0.5 * width * strength) * lung * chest.air
    return Change(added, air > 0.5, vessels=1 - air, facts={"left": left, "width": width})


def hydropneumothorax(chest: Chest, rng: np.random.Generator) -> Change:
    """Air over fluid in a pleural space: a collapsed lung, darkness above, and a flat level across the side."""
    c, body = chest.canvas, chest.anatomy
    left = bool(rng.random() < 0.5)
    width = rng.uniform(0.06, 0.13) * chest.extent**0.5
    air, line, lung = _collapse(chest, rng, left, width)
    height = body.dome[left] - rng.uniform(0.02, 0.20) * chest.extent**0.5
    below, level = c.below_level(0.22 if left else -0.22, height)
    cavity = chest.side(left) * c.inside(-chest.wall_distance) * np.clip((c.aside - 0.055) * 60, 0, 1)
    fluid = cavity * below
    strength = chest.contrast * rng.uniform(0.8, 1.2)
    depth = np.float32(min(0.80 * strength, 1.0))
    added = fluid * (depth * AIR * chest.air + 0.10)
    added += (1 - below) * (np.float32(0.36 * strength) * line - np.float32(0.13 * strength) * air)
    added += (1 - below) * np.float32(0.6 * width * strength) * lung * chest.air
    mask = (air * (1 - below) > 0.5) | (fluid * (chest.above_diaphragm > -0.01) > 0.5)
    facts = {"left": left, "level": level, "width": width}
    return Change(added, mask, vessels=(1 - air) * (1 - fluid), facts=facts)


def pneumoperitoneo(chest: Chest, rng: np.random.Generator) -> Change:
    """Free air: a dark crescent between liver or stomach and the thin line of the diaphragm."""
    c = chest.canvas
    sides = {0: (False,), 1: (True,), 2: (False, True)}[int(rng.choice(3, p=[0.55, 0.15, 0.30]))]
    thick = rng.uniform(0.024, 0.052) * chest.extent**0.7
    layer = np.zeros_like(c.x)
    line = np.zeros_like(c.x)
    for left in sides:
        half = rng.uniform(0.10, 0.16)
        center = DOME + rng.uniform(-0.03, 0.02)
        across = (c.aside - np.float32(center)) * np.float32(1 / half)
        arch = np.clip(1 - across * across, 0, 1)
        below = -chest.above_diaphragm
        rind = 0.007
        here = c.inside(np.float32(rind) - below) * c.inside(
            below - np.float32(rind) - np.float32(thick) * np.sqrt(arch)
        )
        layer = np.maximum(layer, here * (arch > 0) * chest.side(left))
        rim = np.clip(1 - np.abs(below - np.float32(rind / 2)) * np.float32(1 / (rind / 2 + 0.5 * c.pixel)), 0, 1)
        line = np.maximum(line, rim * arch * chest.side(left))
    strength = chest.contrast * rng.uniform(0.75, 1.25)
    added = np.float32(0.12 * strength) * line - np.float32(0.85 * strength) * layer
    return Change(added, layer > 0.4, facts={"sides": len(sides), "thickness": thick})


def subcutaneous_emphysema(chest: Chest, rng: np.random.Generator) -> Change:
    """Dark streaks in the soft tissue along the muscle fibers: up the flank, fanned to the axilla, into the neck."""
    c, body = chest.canvas, chest.anatomy
    sides = (False, True) if rng.random() < 0.35 else (bool(rng.random() < 0.5),)
    layer = np.zeros_like(c.x)
    t = np.linspace(0, 1, 6)
    directions = []
    for left in sides:
        sign = 1 if left else -1
        count = int(rng.integers(11, 20))
        y = rng.uniform(0.24, 0.66, count)
        wall = chest.lateral(y)
        x = wall + rng.uniform(0.006, max(body.wall, 0.03), count)
        x = np.minimum(x + np.clip(0.45 - y, 0, 1) * rng.uniform(0, 0.30, count), 0.45)
        length = rng.uniform(0.07, 0.15, count) * chest.extent**0.5
        # Fibers run along the flank and turn towards the axilla higher up.
        lean = 0.25 + 0.9 * np.clip((0.45 - y) / 0.2, 0, 1) + rng.normal(0, 0.07, count)
        along, lean = length[:, None] * t, lean[:, None]
        paths = np.stack([sign * (x[:, None] + along * np.sin(lean)), y[:, None] - along * np.cos(lean)], -1)
        fade = np.clip(4 * t * (1 - t) + 0.15, 0, 1)[None]
        layer = np.maximum(layer, np.minimum(c.strokes(paths, 0.0080, fade), 1.0))
        if rng.random() < 0.6:
            number = int(rng.integers(4, 8))
            foot_x, foot_y = sign * rng.uniform(0.05, 0.17, number), rng.uniform(0.10, 0.14, number)
            rise = rng.uniform(0.06, 0.11, number)
            tilt = sign * rng.normal(0.12, 0.06, number)
            neck = np.stack([foot_x[:, None] + tilt[:, None] * t * 0.1, foot_y[:, None] - rise[:, None] * t], -1)
            layer = np.maximum(layer, np.minimum(c.strokes(neck, 0.0075, fade), 1.0))
        directions.append(float(np.degrees(sign * np.median(lean))))
    tissue = chest.body * np.clip(1 - chest.air * 3, 0, 1)
    layer = layer * tissue
    added = -np.float32(0.42 * chest.contrast * rng.uniform(0.75, 1.25)) * layer
    return Change(added, layer > 0.3, facts={"directions": directions, "sides": len(sides)})
