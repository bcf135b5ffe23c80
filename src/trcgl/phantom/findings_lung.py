"""Findings within the lungs. Each finding is `(chest, rng) -> Change`."""

import numpy as np

from trcgl.phantom.chest import AIR, Change, Chest


def nodule(chest: Chest, rng: np.random.Generator) -> Change:
    """A round opacity of 8-28 mm, or a few."""
    count = 1 if rng.random() < 0.75 else int(rng.integers(2, 5))
    c = chest.canvas
    layer = np.zeros_like(c.x)
    mask = np.zeros(layer.shape, bool)
    centers = []
    for _ in range(count):
        radius = rng.uniform(0.017, 0.036) * chest.extent
        center = chest.random_lung_point(rng, rng.random() < 0.5, margin=0.03 + radius)
        distance = c.radius(center, (radius, radius * rng.uniform(0.85, 1.15)), rng.uniform(0, 3))
        sphere = np.sqrt(np.clip(1.15 - distance * distance, 0, 1))
        layer = np.maximum(layer, np.float32(0.48 * chest.contrast * rng.uniform(0.7, 1.3)) * sphere)
        mask |= distance < 1.1
        centers.append((*center, radius))
    return Change(layer, mask, facts={"centers": centers})


def mass(chest: Chest, rng: np.random.Generator) -> Change:
    """A lobulated opacity of more than 30 mm, in a lung or at the mediastinum."""
    c = chest.canvas
    radius = rng.uniform(0.05, 0.10) * chest.extent**0.5
    left = bool(rng.random() < 0.5)
    if rng.random() < 0.25:
        sign = 1 if left else -1
        center = (sign * 0.075 + chest.shift, chest.anatomy.apex + rng.uniform(0.07, 0.2))
    else:
        center = chest.random_lung_point(rng, left, margin=0.05)
    lobes, phase = int(rng.integers(3, 6)), rng.uniform(0, 2 * np.pi)
    angle = np.arctan2(c.y - np.float32(center[1]), c.x - np.float32(center[0]))
    edge = 1 + 0.10 * np.sin(lobes * angle + phase) + 0.06 * np.sin(2 * angle - phase)
    distance = c.radius(center, (radius, radius * rng.uniform(0.75, 1.1)), rng.uniform(0, 3)) / edge
    inside = c.inside((distance - 1) * np.float32(radius), 0.006)
    body = inside * (0.55 + 0.45 * np.sqrt(np.clip(1 - distance * distance, 0, 1)))
    here = np.float32(0.68 * chest.contrast * rng.uniform(0.75, 1.2)) * body * chest.body * (c.y > 0)
    here = here * (1 - 0.45 * chest.mediastinum)
    return Change(here, inside > 0.5, vessels=1 - 0.6 * inside, facts={"center": center, "radius": radius})


def atelectasis(chest: Chest, rng: np.random.Generator) -> Change:
    """Bands above the diaphragm, a collapsed base, or a collapsed right upper lobe above its raised fissure."""
    kind = rng.choice(["bands", "base", "lobe"], p=[0.6, 0.27, 0.13])
    return {"bands": _bands, "base": _collapsed_base, "lobe": _collapsed_lobe}[kind](chest, rng)


def _bands(chest: Chest, rng: np.random.Generator) -> Change:
    c = chest.canvas
    layer = np.zeros_like(c.x)
    left = bool(rng.random() < 0.5)
    for _ in range(int(rng.integers(1, 4))):
        x, y = chest.random_lung_point(rng, left, high=0.68, low=0.98, margin=0.03)
        length = rng.uniform(0.09, 0.20) * chest.extent
        slope = rng.normal(0, 0.25)
        t = np.linspace(-0.5, 0.5, 9)
        path = np.stack([x + t * length * np.cos(slope), y + t * length * np.sin(slope) + 0.03 * length * t * t], -1)
        width = rng.uniform(0.008, 0.016)
        layer = layer + c.strokes(path[None], width, np.sqrt(np.clip(1 - 3.5 * t * t, 0.05, 1))[None])
        left = left if rng.random() < 0.6 else not left
    layer = np.minimum(layer, 1.2) * chest.lung
    added = np.float32(0.48 * chest.contrast * rng.uniform(0.75, 1.3)) * layer
    return Change(added, layer > 0.25, facts={"kind": "bands"})


def _collapsed_base(chest: Chest, rng: np.random.Generator) -> Change:
    c = chest.canvas
    left = bool(rng.random() < 0.6)
    sign = 1 if left else -1
    reach = rng.uniform(0.14, 0.24) * chest.extent**0.5
    top = chest.anatomy.dome[left] - rng.uniform(0.13, 0.22) * chest.extent**0.5
    # A triangle with its base on the diaphragm and its tip at the hilum.
    down = np.clip((c.y - np.float32(top)) * np.float32(1 / (chest.anatomy.dome[left] - top)), 0, 1.3)
    edge = 0.05 + np.float32(reach) * down
    wedge = c.inside(sign * c.x - edge, 0.010) * c.inside(np.float32(top) - c.y, 0.02) * (sign * c.x > 0)
    opaque = wedge * np.clip(chest.air * 1.4, 0, 1)
    added = np.float32(min(0.60 * chest.contrast * rng.uniform(0.8, 1.2), 1.1)) * opaque
    return Change(added, (wedge * chest.lung) > 0.4, vessels=1 - 0.7 * wedge, facts={"kind": "base"})


def _collapsed_lobe(chest: Chest, rng: np.random.Generator) -> Change:
    c, body = chest.canvas, chest.anatomy
    x = -c.x
    fissure = np.float32(body.apex + rng.uniform(0.13, 0.18)) - 0.30 * np.maximum(x - 0.06, 0)
    wedge = c.inside(c.y - fissure, 0.006) * c.inside(-(x - 0.04), 0.01)
    opaque = wedge * np.clip(chest.lung * 1.2, 0, 1)
    added = np.float32(0.50 * chest.contrast * rng.uniform(0.8, 1.2)) * opaque
    return Change(added, opaque > 0.4, vessels=1 - 0.8 * wedge, facts={"kind": "lobe"})


def interstitial_pattern(chest: Chest, rng: np.random.Generator) -> Change:
    """A net of fine lines over both lungs, denser towards the bases or the periphery, with some haze."""
    c = chest.canvas
    grain = rng.uniform(0.020, 0.032)
    net = np.clip(1 - np.abs(c.clouds(rng, grain, 1)) * 2.4, 0, 1)
    net += np.clip(1 - np.abs(c.clouds(rng, grain * 0.7, 1)) * 2.4, 0, 1)
    fall = np.clip((c.y - np.float32(chest.anatomy.apex)) * 1.9, 0, 1)
    rim = np.clip(1.2 - chest.wall_distance * 4, 0.25, 1)
    where = chest.open_lung * (fall if rng.random() < 0.6 else fall * 0.4 + rim * 0.6)
    strength = np.float32(0.21 * chest.contrast * rng.uniform(0.75, 1.3))
    return Change(strength * (net + 0.35) * where, where > 0.35, facts={"grain": grain})


def alveolar_pattern(chest: Chest, rng: np.random.Generator) -> Change:
    """Fluffy, confluent opacities with dark bronchi: a patch, two patches, or both hila."""
    c = chest.canvas
    spots = []
    if rng.random() < 0.25:
        for left in (False, True):
            x, y = chest.hilum(left)
            spots.append(((x + (0.07 if left else -0.07), y + 0.04), rng.uniform(0.09, 0.14)))
    else:
        for _ in range(1 if rng.random() < 0.6 else 2):
            center = chest.random_lung_point(rng, rng.random() < 0.45, high=0.15, margin=0.05)
            spots.append((center, rng.uniform(0.06, 0.13)))
    texture = c.clouds(rng, 0.06)
    patch = np.zeros_like(c.x)
    for center, radius in spots:
        wide = radius * chest.extent**0.5
        distance = c.radius(center, (wide * rng.uniform(0.8, 1.2), wide), rng.uniform(0, 3))
        patch = np.maximum(patch, np.clip(1.1 - distance * distance + 0.38 * texture, 0, 1))
    patch = patch * patch * (3 - 2 * patch) * chest.lung
    center, radius = spots[0]
    hilum = chest.hilum(center[0] > 0)
    ends = np.array(center) + rng.normal(0, 0.4 * radius, (4, 2))
    t = np.linspace(0.35, 1, 6)[None, :, None]
    bronchi = np.minimum(c.strokes(np.array(hilum) * (1 - t) + ends[:, None] * t, 0.008), 1) * patch
    dense = np.float32(0.50 * AIR * min(chest.contrast * rng.uniform(0.7, 1.25), 1.6))
    added = dense * patch * (0.35 + 0.65 * chest.air) - 0.18 * bronchi
    facts = {"patches": [(*spot, wide) for spot, wide in spots]}
    return Change(added, patch > 0.4, vessels=1 - 0.85 * patch, facts=facts)


def bronchiectasis(chest: Chest, rng: np.random.Generator) -> Change:
    """Rings with dark centers and tram lines along dilated bronchi, mostly in the lower and middle zones."""
    c = chest.canvas
    left = bool(rng.random() < 0.5)
    layer = np.zeros_like(c.x)
    mask = np.zeros(layer.shape, bool)
    middle = chest.random_lung_point(rng, left, high=0.45, low=0.95, margin=0.06)
    rings = []
    for _ in range(int(rng.integers(5, 10))):
        center = (middle[0] + rng.normal(0, 0.040), middle[1] + rng.normal(0, 0.045))
        radius = rng.uniform(0.009, 0.019) * chest.extent**0.5
        distance = c.radius(center, (radius, radius * rng.uniform(0.65, 1.2)), rng.uniform(0, 3))
        wall = np.clip(1 - np.abs(distance - 1) * np.float32(radius / (0.0045 + 0.5 * c.pixel)), 0, 1)
        layer = np.maximum(layer, wall) - 0.45 * np.clip(1 - distance * 1.3, 0, 1)
        mask |= distance < 1.4
        rings.append((*center, radius))
    start = np.array(chest.hilum(left))
    for _ in range(int(rng.integers(2, 4))):
        end = np.array(middle) + rng.normal(0, 0.04, 2)
        t = np.linspace(0.4, 1.0, 5)[:, None]
        course = start * (1 - t) + end * t
        ahead = (end - start) / np.linalg.norm(end - start)
        aside = np.array([-ahead[1], ahead[0]]) * rng.uniform(0.008, 0.011)
        trams = np.minimum(c.strokes(np.stack([course + aside, course - aside]), 0.0055), 1)
        layer = np.maximum(layer, trams)
        mask |= trams > 0.3
    layer = layer * chest.lung
    added = np.float32(0.34 * chest.contrast * rng.uniform(0.75, 1.25)) * layer
    return Change(added, mask & (chest.lung > 0.3), facts={"rings": rings})


def emphysema(chest: Chest, rng: np.random.Generator) -> Change:
    """Dark lungs with few vessels, most at the apices, and thin-walled bullae."""
    c, body = chest.canvas, chest.anatomy
    fall = np.clip(1.25 - (c.y - np.float32(body.apex)) * 1.2, 0.35, 1)
    where = chest.open_lung * fall
    loss = np.float32(0.12 * chest.contrast * rng.uniform(0.7, 1.3))
    added = -loss * where * chest.air
    bullae = []
    for _ in range(int(rng.integers(1, 4))):
        center = chest.random_lung_point(rng, rng.random() < 0.5, high=0.05, low=0.6, margin=0.035)
        radius = rng.uniform(0.035, 0.075) * chest.extent
        distance = c.radius(center, (radius, radius * rng.uniform(0.8, 1.3)))
        wall = np.clip(1 - np.abs(distance - 1) * np.float32(radius / (0.004 + 0.5 * c.pixel)), 0, 1)
        hollow = np.clip((1 - distance) * 8, 0, 1)
        added = added + (0.11 * wall - 0.8 * loss * hollow) * chest.lung
        bullae.append((*center, radius))
    return Change(added, chest.open_lung > 0.5, vessels=1 - 0.62 * where, facts={"bullae": bullae})


def calcified_densities(chest: Chest, rng: np.random.Generator) -> Change:
    """A few small, dense dots: granulomas in a lung, lymph nodes at a hilum, or calcium in the soft tissue."""
    c = chest.canvas
    place = rng.choice(["lung", "hilum", "wall"], p=[0.6, 0.25, 0.15])
    left = bool(rng.random() < 0.5)
    sign = 1 if left else -1
    if place == "lung":
        center = chest.random_lung_point(rng, left, margin=0.05)
    elif place == "hilum":
        x, y = chest.hilum(left)
        center = (x + sign * 0.02, y)
    else:
        y = rng.uniform(0.28, 0.6)
        center = (sign * (chest.half_width(y) + 0.03), y)
    count = int(rng.integers(3, 8))
    spread = np.array([0.028, 0.032]) if place != "wall" else np.array([0.012, 0.05])
    centers = np.array(center) + rng.normal(0, 1, (count, 2)) * spread
    radii = rng.uniform(0.0065, 0.0130, count) * chest.extent**0.5
    dots = c.dots(centers, radii)
    added = np.float32(1.45 * chest.contrast * rng.uniform(0.7, 1.3)) * dots
    facts = [(*center, radius) for center, radius in zip(centers.tolist(), radii.tolist(), strict=True)]
    return Change(added, dots > 0.3, facts={"place": str(place), "dots": facts})


def azygos_lobe(chest: Chest, rng: np.random.Generator) -> Change:
    """A thin line, convex to the side, from the right apex down to the azygos vein, which ends it as a teardrop."""
    c, body = chest.canvas, chest.anatomy
    start = np.array([-rng.uniform(0.145, 0.185), body.apex + 0.012])
    end = np.array([-rng.uniform(0.075, 0.090) + chest.shift, body.apex + rng.uniform(0.175, 0.215)])
    bow = np.array([-rng.uniform(0.225, 0.275), body.apex + rng.uniform(0.09, 0.13)])
    t = np.linspace(0, 1, 21)[:, None]
    path = start * (1 - t) ** 2 + 2 * bow * t * (1 - t) + end * t**2
    line = np.minimum(c.strokes(path[None], 0.0080), 1)
    drop = c.disk((end[0], end[1]), (0.011, 0.019), 0.35, 0.004)
    both = np.maximum(line, 1.3 * drop)
    added = np.float32(0.52 * chest.contrast * rng.uniform(0.75, 1.3)) * both
    lobe = (c.y < end[1]) & (c.y > body.apex) & (c.x < -0.06) & (chest.lung > 0.5)
    medial = np.interp(c.y, path[:, 1], path[:, 0])
    haze = np.where(lobe & (c.x > medial), np.float32(0.05 * chest.contrast), 0)
    return Change(added + haze, both > 0.3, facts={"line": path.tolist(), "teardrop": end.tolist()})
