"""Free air under the diaphragm and in the soft tissue."""

import numpy as np
from scipy.ndimage import minimum_filter

from trcgl.audit.structure_lines import STEP, follow, ridge, sample
from trcgl.audit.thorax import Thorax
from trcgl.phantom.chest import DOME

_DENSEST = 1.9
"""Attenuation above which the film shows little contrast."""
_WIDE = 0.13
"""Smallest extent of a crescent along the dome, as a share of the image side."""
_DEEP = 0.055
"""Distance from the crescent to the bright abdomen below it."""
_NEAR = 0.10
"""Largest distance of the diaphragm from its estimate, which free air disturbs."""
_ANGLES = np.radians(np.arange(0, 180, 22.5))
_HALF = 0.05
"""Half length over which a streak is averaged along its direction, as a share of the image side."""

_FAINT = 0.02
"""Strength of noise after averaging."""


def _crescent(thorax: Thorax, left: bool) -> dict[str, float]:
    """The thin bright line of one dome with darkness right below, followed along the dome."""
    chest, body, pixel = thorax.chest, thorax.chest.anatomy, thorax.chest.canvas.pixel
    aside = np.arange(DOME - 0.13, min(DOME + 0.13, body.chest - 0.03), pixel)
    out, into = np.maximum(aside - DOME, 0) / (body.chest - DOME), np.maximum(DOME - aside, 0) / DOME
    dome = body.dome[left] + body.curve[left] * (0.4 * out**2 + 0.6 * out**4 + 0.25 * into**2)
    below = np.arange(-_NEAR - 0.01, _NEAR + 0.10, STEP * pixel)
    y = dome[:, None] + below
    x = np.broadcast_to((aside if left else -aside)[:, None], y.shape)
    unrolled = sample(np.minimum(thorax.attenuation, np.float32(_DENSEST)), chest.canvas, x, y)
    line = ridge(unrolled)
    under, deep = round(1.5 / STEP), round(_DEEP / (STEP * pixel))
    dark = np.full_like(unrolled, -1.0)
    dark[:, : -(under + deep)] = unrolled[:, under + deep :] - unrolled[:, under:-deep]
    allowed = np.broadcast_to(np.abs(below) < 0.9 * _NEAR, dark.shape)
    course = follow(np.minimum(3 * line, dark), allowed, enough=0.8).across
    places = np.arange(len(aside))
    line, dark = line[places, course], dark[places, course]
    wide = round(_WIDE / pixel)
    best = {"line": -1.0, "dark": -1.0, "wobble": 9.0, "uneven": 9.0}
    for first in range(len(places) - wide + 1):
        here = slice(first, first + wide)
        faint, shallow = float(np.quantile(line[here], 0.25)), float(np.quantile(dark[here], 0.25))
        if min(4 * faint, shallow) > min(4 * best["line"], best["dark"]):
            height = below[course[here]]
            bend = height - np.polyval(np.polyfit(places[here], height, 2), places[here])
            uneven = float(dark[here].std() / max(float(dark[here].mean()), 1e-3))
            best = {"line": faint, "dark": shallow, "wobble": float(bend.std()), "uneven": uneven}
    return best


def pneumoperitoneum(thorax: Thorax) -> dict[str, float]:
    """A thin line on a dome, and right below it a dark crescent over the bright abdomen."""
    return max(
        (_crescent(thorax, left) for left in (False, True)), key=lambda side: min(4 * side["line"], side["dark"])
    )


def _streaks(thorax: Thorax, left: bool) -> dict[str, float]:
    """Dark streaks in the soft tissue of one side: how dark along the fibers, and in which direction they run."""
    chest, canvas = thorax.chest, thorax.chest.canvas
    tissue = (minimum_filter(chest.body, 3) > 0.9) & (chest.wall_distance < -0.5 * canvas.pixel) & chest.side(left)
    tissue &= (canvas.y > 0.13) & (canvas.y < 0.66) & (canvas.aside < 0.47)
    x, y = canvas.x[tissue], canvas.y[tissue]
    if len(x) < 20:
        return {"dark": 0.0, "coherence": 0.0, "turned": 90.0}
    excess = np.clip(thorax.excess, -0.8, 0.8)
    # Fibers run along the flank and turn towards the axilla higher up.
    lean = 0.25 + 0.9 * np.clip((0.40 - y) / 0.2, 0, 1)
    reach = round(_HALF * canvas.size)
    along = np.arange(-reach, reach + 1) * canvas.pixel
    energy = []
    for angle in _ANGLES:
        right, down = (1 if left else -1) * np.sin(lean + angle), -np.cos(lean + angle)
        ground = []
        for aside in np.array([0, -1.5, 1.5]) * canvas.pixel:
            there = x[:, None] + right[:, None] * along - down[:, None] * aside
            high = y[:, None] + down[:, None] * along + right[:, None] * aside
            ground.append(sample(excess, canvas, there, high).mean(1))
        middle, before, behind = ground
        streak = np.maximum(np.minimum(before, behind) - middle - _FAINT, 0)
        energy.append(float((streak * streak).mean()))
    turned = (np.array(energy) * np.exp(2j * _ANGLES)).sum()
    return {
        "dark": float(np.sqrt(energy[0])),
        "coherence": float(abs(turned) / max(sum(energy), 1e-9)),
        "turned": float(abs(np.degrees(np.angle(turned)) / 2)),
    }


def subcutaneous_emphysema(thorax: Thorax) -> dict[str, float]:
    """Dark streaks along the muscle fibers of flank or axilla."""
    return max(
        (_streaks(thorax, left) for left in (False, True)),
        key=lambda side: min(side["dark"] / 0.02, side["coherence"] / 0.4),
    )
