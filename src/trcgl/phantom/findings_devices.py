"""Devices and implants. Each finding is `(chest, rng) -> Change`; metal is far denser than bone."""

from collections.abc import Callable

import numpy as np

from trcgl.phantom.canvas import Layer
from trcgl.phantom.chest import Change, Chest

Points = list[tuple[float, float]]


def _smooth(points: Points, count: int = 30) -> np.ndarray:
    """A smooth curve (1, count, 2) through points, by a Catmull-Rom spline."""
    nodes = np.array(points, float)
    nodes = np.concatenate([2 * nodes[:1] - nodes[1:2], nodes, 2 * nodes[-1:] - nodes[-2:-1]])
    place = np.linspace(0, len(points) - 1 - 1e-9, count)
    start = place.astype(int)
    t = (place - start)[:, None]
    a, b, c, d = (nodes[start + step] for step in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve[None]


def sternotomy(chest: Chest, rng: np.random.Generator) -> Change:
    """A column of four to seven wire loops in the midline."""
    c, body = chest.canvas, chest.anatomy
    count = int(rng.integers(4, 8))
    x = 1.1 * chest.shift + rng.normal(0, 0.004)
    heights = np.linspace(body.clavicle + 0.05, chest.heart_center + 0.05, count) + rng.normal(0, 0.004, count)
    turn = np.linspace(0, 2 * np.pi, 17)
    wide, tall = rng.uniform(0.010, 0.014), rng.uniform(0.006, 0.010)
    loops = []
    for y in heights:
        lean = rng.normal(0, 0.25)
        across, along, cos, sin = wide * np.cos(turn), tall * np.sin(turn), np.cos(lean), np.sin(lean)
        loops.append(np.stack([x + across * cos - along * sin, y + across * sin + along * cos], -1))
    wires = np.minimum(c.strokes(np.array(loops), 0.0042), 1.0)
    added = np.float32(2.6 * chest.contrast * rng.uniform(0.8, 1.2)) * wires
    return Change(added, wires > 0.2, facts={"wires": [(float(x), float(y)) for y in heights]})


def central_venous_catheter(chest: Chest, rng: np.random.Generator) -> Change:
    """A thin line from the neck or below a clavicle through the superior vena cava to the right atrium."""
    apex, clavicle = chest.anatomy.apex, chest.anatomy.clavicle
    cava = -0.044 + chest.shift
    tip = (cava + 0.004, chest.heart_center - rng.uniform(0.03, 0.15))
    upper = (cava, apex + 0.14)
    kind = rng.choice(["jugular", "right subclavian", "left subclavian", "port"], p=[0.45, 0.2, 0.15, 0.2])
    port = None
    if kind == "jugular":
        points: Points = [(-0.075, -0.03), (-0.066, 0.06), (-0.052, apex + 0.05), upper, tip]
    elif kind == "right subclavian":
        points = [(-0.36, 0.20), (-0.26, clavicle - 0.02), (-0.13, clavicle - 0.005), (-0.06, apex + 0.08), upper, tip]
    elif kind == "left subclavian":
        points = [(0.34, 0.20), (0.22, clavicle - 0.02), (0.08, apex + 0.065), (-0.02, apex + 0.11), upper, tip]
    else:
        port = (-rng.uniform(0.20, 0.26), apex + rng.uniform(0.13, 0.18))
        points = [port, (-0.20, clavicle), (-0.12, clavicle - 0.035), (-0.06, apex + 0.07), upper, tip]
    jitter = rng.normal(0, 0.006, (len(points), 2))
    jitter[0] = 0
    path = _smooth([(x + dx, y + dy) for (x, y), (dx, dy) in zip(points, jitter, strict=True)], 40)
    c = chest.canvas
    line = np.minimum(c.strokes(path, 0.0060), 1)
    added = np.float32(0.62 * chest.contrast * rng.uniform(0.75, 1.25)) * line
    mask = line > 0.3
    if port:
        reservoir = c.disk(port, (0.026, 0.022), 0.2, 0.002)
        septum = c.disk(port, (0.013, 0.011), 0.2, 0.002)
        added = added + 0.85 * reservoir - 0.35 * septum
        mask = mask | (reservoir > 0.5)
    return Change(added, mask, facts={"kind": str(kind), "line": path[0].tolist(), "tip": tip})


def support_devices(chest: Chest, rng: np.random.Generator) -> Change:
    """One or two devices: pacemaker, endotracheal tube, feeding tube, chest drain, heart valve, monitoring leads."""
    names = list(DEVICES)
    count = 1 if rng.random() < 0.55 else 2
    chosen = rng.choice(len(names), count, replace=False, p=[0.32, 0.15, 0.16, 0.12, 0.10, 0.15])
    layer = np.zeros_like(chest.canvas.x)
    for index in chosen:
        layer = np.maximum(layer, DEVICES[names[index]](chest, rng))
    added = np.float32(min(chest.contrast, 1.5) * rng.uniform(0.85, 1.2)) * layer
    return Change(added, layer > 0.15, facts={"devices": [names[index] for index in chosen]})


def _pacemaker(chest: Chest, rng: np.random.Generator) -> Layer:
    c, body = chest.canvas, chest.anatomy
    sign = 1 if rng.random() < 0.75 else -1
    x, y = sign * rng.uniform(0.23, 0.29), body.apex + rng.uniform(0.07, 0.13)
    can = c.disk((x, y), (0.046, 0.040), rng.uniform(-0.4, 0.4), 0.003)
    header = c.disk((x, y - 0.036), (0.030, 0.013), 0.0, 0.003)
    layer = np.maximum(1.25 * can, 0.7 * header)
    top = (x, y - 0.045)
    cava = (-0.035 + chest.shift, body.apex + 0.13)
    vein = [(sign * 0.19, body.clavicle - 0.025), (sign * 0.08, body.apex + 0.06), cava]
    middle, right = chest.heart_center, body.heart[0]
    auricle = [(-0.05, middle - 0.06), (-0.55 * right, middle + 0.03), (-0.75 * right, middle - 0.03)]
    atrial: Points = [top, *vein, *auricle]
    apical: Points = [top, *vein, (-0.055, middle - 0.02), (0.0, middle + 0.075), (0.5 * body.heart[1], middle + 0.07)]
    leads = [apical] if rng.random() < 0.35 else [atrial, apical]
    for lead in leads:
        layer = np.maximum(layer, 0.8 * np.minimum(c.strokes(_smooth(lead, 60), 0.0055), 1))
    return layer


def _endotracheal_tube(chest: Chest, rng: np.random.Generator) -> Layer:
    c = chest.canvas
    x = 1.2 * chest.shift - 0.004
    tip = chest.aortic_knob[1] + 0.075 - rng.uniform(0.02, 0.09)
    walls = np.array([[(x + side, -0.08), (x + side, 0.05), (x + side * 0.9, tip)] for side in (-0.0095, 0.0095)])
    return 0.75 * np.minimum(c.strokes(walls, 0.0055), 1)


def _feeding_tube(chest: Chest, rng: np.random.Generator) -> Layer:
    c = chest.canvas
    x = 0.8 * chest.shift + 0.008
    dome = chest.anatomy.dome[1]
    stomach = [(0.10, dome + 0.08), (0.17, dome + rng.uniform(0.08, 0.13))]
    points: Points = [(x - 0.004, -0.08), (x, 0.2), (x + 0.006, 0.5), (x + 0.02, dome), *stomach]
    return 0.80 * np.minimum(c.strokes(_smooth(points, 60), 0.0065), 1)


def _chest_drain(chest: Chest, rng: np.random.Generator) -> Layer:
    c, body = chest.canvas, chest.anatomy
    sign = 1 if rng.random() < 0.5 else -1
    entry = rng.uniform(0.50, 0.62)
    wall = chest.half_width(entry)
    end = (sign * rng.uniform(0.12, 0.18), body.apex + rng.uniform(0.04, 0.12))
    outside, inside = (sign * (wall + 0.09), entry + 0.06), (sign * (wall - 0.07), entry - 0.13)
    course = _smooth([outside, (sign * wall, entry), inside, end], 50)[0]
    ahead = np.gradient(course, axis=0)
    aside = np.stack([-ahead[:, 1], ahead[:, 0]], -1) / np.linalg.norm(ahead, axis=1, keepdims=True) * 0.008
    tube = np.minimum(c.strokes(np.stack([course + aside, course - aside]), 0.005), 1)
    return np.maximum(0.65 * tube, 0.25 * np.minimum(c.strokes(course[None], 0.014), 1))


def _valve(chest: Chest, rng: np.random.Generator) -> Layer:
    c, body = chest.canvas, chest.anatomy
    center = (0.12 * body.heart[1] + rng.uniform(0, 0.03), chest.heart_center + rng.uniform(-0.03, 0.02))
    radius = rng.uniform(0.022, 0.030)
    distance = c.radius(center, (radius, radius * rng.uniform(0.45, 0.8)), rng.uniform(-0.9, -0.2))
    return 1.3 * np.clip(1 - np.abs(distance - 1) * np.float32(radius / (0.006 + 0.5 * c.pixel)), 0, 1)


def _electrodes(chest: Chest, rng: np.random.Generator) -> Layer:
    c = chest.canvas
    layer = np.zeros_like(c.x)
    for x, y in [(-0.27, 0.22), (0.28, 0.22), (0.30, 0.66)]:
        place = (x + rng.normal(0, 0.03), y + rng.normal(0, 0.03))
        clip = c.disk(place, (0.012, 0.012), 0.0, 0.002)
        end = (0.3 * x + rng.normal(0, 0.08), 1.05)
        middle = (0.9 * x + rng.normal(0, 0.06), 0.5 * (y + 1.0) + rng.normal(0, 0.04))
        wire = np.minimum(c.strokes(_smooth([place, middle, end], 40), 0.0042), 1)
        layer = np.maximum(layer, np.maximum(1.1 * clip, 0.75 * wire))
    return layer


DEVICES: dict[str, Callable[[Chest, np.random.Generator], Layer]] = {
    "pacemaker": _pacemaker,
    "endotracheal tube": _endotracheal_tube,
    "feeding tube": _feeding_tube,
    "chest drain": _chest_drain,
    "valve": _valve,
    "electrodes": _electrodes,
}
