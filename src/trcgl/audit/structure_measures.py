"""What the structure check of each finding measures, in the lungs, in the pleural space, and outside of both.

Thin lines: the image is unrolled along the expected course of a line, and the best bright ridge through it is followed.
The faintest fifth of its length shows whether a line is continuous: speckle has gaps there, and a blurred line stands
out nowhere.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import grey_opening, map_coordinates, maximum_filter, minimum_filter

from trcgl.audit.thorax import Thorax
from trcgl.phantom.canvas import Canvas, Layer
from trcgl.phantom.chest import DOME

Unrolled = Float[np.ndarray, "places across"]

STEP = 0.5  # pixels between neighbors across an unrolled line; along it they are about one pixel apart
BESIDE = 3  # steps from a ridge to the ground beside it: 1.5 pixels, as far as a line of one pixel needs
_BEND = 0.01  # cost of a step aside, in attenuation


@dataclass(frozen=True)
class Course:
    """A line that was followed through an unrolled image."""

    across: Int[np.ndarray, " places"]  # position across the line at every position along it
    # attenuation of the ridge above the background beside it at every position along it
    height: Float[np.ndarray, " places"]

    @property
    def faintest(self) -> float:
        """Height that four fifths of the line reach or exceed."""
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
    """Values of a layer at points in body coordinates."""
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
    """Follow the line with the largest sum of heights; it moves sideways by at most one position per place.

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


_DENSEST = 1.9  # attenuation above which the film shows little contrast
_ASIDE = 0.11  # largest distance of the fissure from its mean course


def azygos_fissure(thorax: Thorax) -> dict[str, float]:
    """A thin continuous line in the right upper lung, convex to the side."""
    chest, body, canvas = thorax.chest, thorax.chest.anatomy, thorax.chest.canvas
    start, bow = np.array([-0.165, body.apex + 0.012]), np.array([-0.25, body.apex + 0.11])
    end = np.array([-0.0825 + chest.shift, body.apex + 0.195])
    t = np.linspace(0, 1, 50)[:, None]
    path = evenly(start * (1 - t) ** 2 + 2 * bow * t * (1 - t) + end * t**2, canvas.pixel)
    offsets = np.arange(-_ASIDE, _ASIDE, STEP * canvas.pixel)
    at = beside(path, offsets)
    height = ridge(sample(thorax.excess, canvas, at[..., 0], at[..., 1]))[1:-2]
    course = follow(height, np.ones(height.shape, bool), enough=0.25)
    aside = float(abs(offsets[course.across].mean()))
    return {"line": course.faintest, "uneven": course.uneven, "aside": aside}


_LENGTH, _LENGTH_SPREAD = 0.784, 0.050
_HEART, _HEART_SPREAD = 0.456, 0.054
"""Mean and standard deviation of the estimates for phantoms without the finding, with any other."""


def hyperinflation(thorax: Thorax) -> dict[str, float]:
    """Measure the curve of the domes, and how long the lungs and how narrow the heart are.

    Lung length (apex to dome) and heart width are divided by the width of the chest; `slender` is their difference in
    standard deviations from thoraces without the finding.
    """
    body = thorax.chest.anatomy
    length = (np.mean(body.dome) - body.apex) / (2 * body.chest)
    heart = sum(body.heart) / (2 * body.chest)
    slender = (length - _LENGTH) / _LENGTH_SPREAD - (heart - _HEART) / _HEART_SPREAD
    return {"curve": float(np.mean(body.curve)), "slender": float(slender)}


_CLUSTER = 0.10  # sides of the image from the middle of a cluster of dots to its outermost
_DOT = 0.022  # side of the square that one dot fills, blurred by the film
_BRIGHT = 0.35  # least attenuation of a dot above the ground around it


def calcified_dots(thorax: Thorax) -> dict[str, float]:
    """A cluster of small, compact, very bright dots in a lung, at a hilum or in the chest wall."""
    chest, canvas = thorax.chest, thorax.chest.canvas
    size = canvas.size
    excess = np.clip(thorax.excess, -1, 3)
    wide = 2 * round(0.035 * size) + 1
    where = (chest.wall_distance > -0.085) & (chest.above_diaphragm > -0.03) & (canvas.y > chest.anatomy.apex)
    where &= (canvas.aside > 0.055) & (chest.body > 0.9)
    height = np.where(where, excess - grey_opening(excess, (wide, wide)), 0)
    row, column = np.nonzero((height == maximum_filter(height, 3)) & (height > _BRIGHT))
    if not len(row):
        return {"bright": 0.0, "dots": 0.0, "area": 99.0, "whole": 99.0}
    peak = height[row, column]
    near = np.hypot(row[:, None] - row, column[:, None] - column) < _CLUSTER * size
    cluster = near[(near * np.minimum(peak, 2)).sum(1).argmax()]
    bright = float(np.sort(peak[cluster])[-3:].mean())
    strong = cluster & (peak > 0.5 * bright)
    middle = (np.average(row[strong], weights=peak[strong]), np.average(column[strong], weights=peak[strong]))
    rows, columns = np.indices(height.shape)
    disc = np.hypot(rows - middle[0], columns - middle[1]) < _CLUSTER * size
    whole = float((disc & (height > 0.5 * bright)).sum() / (_DOT * size) ** 2)
    dots = float(strong.sum())
    return {"bright": bright, "dots": dots, "area": whole / dots, "whole": whole}


_DEEPEST = 0.19  # sides of the image between chest wall and the most collapsed lung
_TRIED = 3  # rows per side that are tried as a level


# A lung unrolled from its chest wall inwards: height at which each ray leaves the wall, from the apex down; depth below
# wall and apex, with round corners; excess attenuation of the image.
Rim = tuple[Float[np.ndarray, " places"], Float[np.ndarray, "one across"], Unrolled]


def _unroll(thorax: Thorax, left: bool) -> Rim:
    """Rays from the chest wall to the middle of the lung."""
    chest = thorax.chest
    body, pixel = chest.anatomy, chest.canvas.pixel
    y = np.linspace(body.apex + 0.008, body.dome[left] - 0.005, 100)
    wall = evenly(np.stack([chest.lateral(y), y], -1), pixel)
    middle = np.array([0.07, body.apex + 0.62 * (body.dome[left] - body.apex)])
    along = np.linspace(0, 1, 70)[None, :, None]
    rays = wall[:, None] * (1 - along) + middle * along
    top = np.maximum(0.85 * (rays[..., 1] - body.apex), 0)
    side = np.maximum(chest.lateral(rays[..., 1]) - rays[..., 0], 0)
    deep = np.maximum.accumulate(top + side - np.sqrt(top * top + side * side), axis=1)
    depth = np.arange(0, _DEEPEST, STEP * pixel)
    places = [np.interp(depth, ray, along[0, :, 0]) for ray in deep]
    at = wall[:, None] + (middle - wall[:, None]) * np.array(places)[..., None]
    sign = 1 if left else -1
    return wall[:, 1], depth[None], sample(thorax.excess, chest.canvas, sign * at[..., 0], at[..., 1])


def _mean(values: Unrolled, where: Bool[np.ndarray, "places across"]) -> Float[np.ndarray, " places"]:
    """Mean along each ray over the places chosen there."""
    mean: Float[np.ndarray, " places"] = (values * where).sum(1) / np.maximum(where.sum(1), 1)
    return mean


def _collapse(thorax: Thorax, left: bool, rim: Rim, lowest: float, narrow: float, wide: float) -> dict[str, float]:
    """Measure the line of the visceral pleura above the height `lowest`.

    The line is searched at a depth from the chest wall between `narrow` and `wide` at the apex, and less below it.

    Returns:
        `line`: contrast of the line where it is faintest; `dark beyond`: how much darker the space between wall and
        line is than the lung within the line (-1 if it cannot be measured); `wobble`: standard deviation of the depth
        of the line around a parabola.
    """
    body, (y, depth, excess) = thorax.chest.anatomy, rim
    above = y < lowest
    if above.sum() < 8:
        return {"line": 0.0, "dark beyond": -1.0, "wobble": 9.0}
    fall = ((y - body.apex) / (body.dome[left] - body.apex))[above, None]
    allowed = (depth > narrow * (1 - 0.55 * fall)) & (depth < wide * (1 - 0.35 * fall))
    course = follow(ridge(excess)[above], allowed, enough=0.3)
    width, excess = depth[0, course.across], excess[above]
    beyond = (depth > 0.004) & (depth < width[:, None] - 0.010)
    within = (depth > width[:, None] + 0.015) & (depth < width[:, None] + 0.060)
    there = beyond.any(1) & within.any(1)
    contrast = (_mean(excess, within) - _mean(excess, beyond))[there]
    smooth = np.polyval(np.polyfit(fall[:, 0], width, 2), fall[:, 0])
    return {
        "line": course.faintest,
        "dark beyond": float(np.median(contrast)) if len(contrast) else -1.0,
        "wobble": float((width - smooth).std()),
    }


def pneumothorax(thorax: Thorax) -> dict[str, float]:
    """A continuous line beside the chest wall down to the diaphragm, with a darker rim beyond it."""
    dome = thorax.chest.anatomy.dome
    sides = (_collapse(thorax, left, _unroll(thorax, left), dome[left] - 0.01, 0.026, 0.15) for left in (False, True))
    return max(sides, key=lambda side: side["line"])


def _levels(thorax: Thorax, left: bool, top: Layer) -> list[dict[str, float]]:
    """The rows of one side at which most columns turn from dark to bright, best first."""
    chest, canvas = thorax.chest, thorax.chest.canvas
    sign = 1 if left else -1
    step = np.zeros_like(top)
    step[2:-1] = 0.5 * (top[2:-1] + top[3:] - top[:-3] - top[1:-2])
    body, hidden = chest.anatomy, chest.mediastinum > 0.2
    first = int(canvas.row_of(sign * 0.22, body.apex + 0.22))
    last = min(int(canvas.row_of(sign * 0.22, body.dome[left] + 0.08)), canvas.size - 5)
    found = []
    for row in range(first, last):
        aside = sign * canvas.x[row]
        clear = (aside > 0.09) & (chest.lateral(canvas.y[row]) - aside > 0.4 * canvas.pixel) & ~hidden[row]
        columns = np.flatnonzero(clear)
        if len(columns) < 4:
            continue
        steps = step[row, columns]
        apart = step[row - 4 : row + 5, columns].argmax(0) - 4
        found.append(
            {
                "step": float(np.quantile(steps, 0.2)),
                "flat": float((np.abs(apart) <= 1).mean()),
                "uneven": unevenness(steps),
                "height": float(canvas.y[row, columns].mean()),
            }
        )
    return sorted(found, key=lambda level: -level["step"])


def hydropneumothorax(thorax: Thorax) -> dict[str, float]:
    """A flat level across one side, and above it the line of a collapsed lung with a darker rim beyond."""
    top = np.minimum(thorax.attenuation, np.float32(_DENSEST))
    found = []
    for left in (False, True):
        rim = _unroll(thorax, left)
        for level in _levels(thorax, left, top)[:_TRIED]:
            found.append(level | _collapse(thorax, left, rim, level["height"] - 0.015, 0.055, 0.19))
    if not found:
        return {"step": 0.0, "flat": 0.0, "uneven": 9.0, "line": 0.0, "wobble": 9.0}
    return max(found, key=lambda level: min(level["step"] / 0.4, level["line"] / 0.12))


_WIDE = 0.13  # smallest extent of a crescent along the dome, as a share of the image side
_DEEP = 0.055  # distance from the crescent to the bright abdomen below it
_NEAR = 0.10  # largest distance of the diaphragm from its estimate, which free air disturbs
_ANGLES = np.radians(np.arange(0, 180, 22.5))
_HALF = 0.05  # half length over which a streak is averaged along its direction, as a share of the image side

_FAINT = 0.02  # strength of noise after averaging


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
            best = {"line": faint, "dark": shallow, "wobble": float(bend.std()), "uneven": unevenness(dark[here])}
    return best


def pneumoperitoneum(thorax: Thorax) -> dict[str, float]:
    """A thin line on a dome, and right below it a dark crescent over the bright abdomen."""
    sides = (_crescent(thorax, left) for left in (False, True))
    return max(sides, key=lambda side: min(4 * side["line"], side["dark"]))


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
    sides = (_streaks(thorax, left) for left in (False, True))
    return max(sides, key=lambda side: min(side["dark"] / 0.02, side["coherence"] / 0.4))
