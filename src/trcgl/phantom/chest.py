"""The thorax on the canvas: attenuation that each structure adds to the beam.

Attenuation adds up along the beam, so structures overlie each other as on a radiograph: a rib shows through the heart,
and air subtracts attenuation. The film turns the sum into gray once, at the end.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from trcgl.phantom.anatomy import Anatomy, Exposure, breathed
from trcgl.phantom.canvas import Canvas, Layer

AIR = 1.16  # attenuation that a full depth of lung subtracts
DOME = 0.19  # distance of the top of each diaphragm dome from the midline
WIDEST = 0.70  # height at which the rib cage is widest

Mask = Bool[np.ndarray, "size size"]


@dataclass(frozen=True)
class Change:
    """Change of the rendered chest by a finding.

    `facts` are measures of the lesion for structure checks: lengths in sides of the image, angles in degrees.
    """

    attenuation: Layer  # added to the attenuation of the beam; negative where air replaces tissue
    mask: Mask
    vessels: Layer | None = None  # factor on the vessels of the lung, 0 where they are gone or hidden
    facts: dict[str, Any] = field(default_factory=dict)


class Chest:
    """A thorax on a canvas; findings read its layers and points.

    `rng` makes bowel gas; `contrast` and `extent` are factors on the attenuation and the size of lesions.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        exposure: Exposure,
        size: int,
        rng: np.random.Generator,
        contrast: float = 1.0,
        extent: float = 1.0,
    ) -> None:
        self.contrast, self.extent = contrast, extent
        self.anatomy, self.exposure = breathed(anatomy, exposure), exposure
        self.canvas = Canvas(size, exposure.pose)
        self.shift = 0.012 * exposure.turn
        self._rng = rng

    # Points and lines

    def side(self, left: bool) -> Mask:
        """True on the patient's left or right side of the midline."""
        return self.canvas.patients_left if left else ~self.canvas.patients_left

    def lateral(self, y: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Half-width of the rib cage at a height."""
        body = self.anatomy
        rise = np.clip((WIDEST - y) * (1 / (WIDEST - body.apex)), 0, 1)
        inner = 0.15
        below = np.maximum(y - WIDEST, 0)
        return inner + (body.chest - inner) * np.sqrt(1 - rise * rise * rise) - 0.5 * below * below

    def half_width(self, y: float) -> float:
        """`lateral` at a single height."""
        return float(self.lateral(np.full(1, y))[0])

    def hilum(self, left: bool) -> tuple[float, float]:
        """Center of the left or right hilum; the left hilum is higher."""
        middle = 0.5 * (self.anatomy.apex + self.anatomy.dome[left])
        return (0.085 + self.shift, middle - 0.012) if left else (-0.082 + self.shift, middle + 0.012)

    @property
    def aortic_knob(self) -> tuple[float, float]:
        """Center of the aortic knob."""
        body = self.anatomy
        return 0.030 + 0.4 * body.knob + 0.3 * body.unfolding + self.shift, body.apex + 0.185

    @property
    def heart_center(self) -> float:
        """Height of the middle of the heart."""
        return self.anatomy.dome[1] - 0.095 * self.anatomy.heart_height - 0.01

    def random_lung_point(
        self, rng: np.random.Generator, left: bool, *, high: float = 0.0, low: float = 1.0, margin: float = 0.05
    ) -> tuple[float, float]:
        """A point well inside a lung and clear of heart and mediastinum.

        `high`: highest place, 0 for the apex. `low`: lowest place, 1 for the dome. `margin`: distance from chest wall
        and diaphragm.
        """
        body = self.anatomy
        top, bottom = body.apex + margin, body.dome[left] - margin
        y = float(top + (bottom - top) * rng.uniform(high, low))
        outer = self.half_width(y) - margin
        inner = min(0.10 + margin / 2, outer - 0.02)
        if y > self.heart_center - 0.12:
            reach = body.heart[left] * (0.95 if left else 1.0)
            inner = min(max(inner, reach + margin / 2), outer - 0.02)
        x = float(rng.uniform(inner, outer))
        return (x if left else -x), y

    # Layers

    @cached_property
    def wall_distance(self) -> Layer:
        """Distance to the inside of the rib cage, positive within."""
        return self.lateral(self.canvas.y) - self.canvas.aside

    @cached_property
    def above_diaphragm(self) -> Layer:
        """Height above the diaphragm of the same side, negative below."""
        c = self.canvas
        dome = np.where(c.patients_left, np.float32(self.anatomy.dome[1]), np.float32(self.anatomy.dome[0]))
        curve = np.where(c.patients_left, np.float32(self.anatomy.curve[1]), np.float32(self.anatomy.curve[0]))
        out = np.maximum(c.aside - DOME, 0) * np.float32(1 / (self.anatomy.chest - DOME))
        into = np.maximum(DOME - c.aside, 0) * np.float32(1 / DOME)
        out *= out
        return dome + curve * (0.4 * out + 0.6 * out * out + 0.25 * into * into) - c.y

    @cached_property
    def lung(self) -> Layer:
        """Both lungs in projection, without their parts behind heart and dome."""
        c = self.canvas
        rise = np.clip((self.anatomy.apex + 0.13 - c.y) * (1 / 0.13), 0, 1)
        medial = np.abs(c.x - np.float32(self.shift)) - (0.052 + 0.10 * rise * rise * rise)
        within = c.inside(-self.wall_distance) * c.inside(-self.above_diaphragm) * c.inside(-medial, 0.012)
        return within * c.inside(self.anatomy.apex - c.y)

    @cached_property
    def open_lung(self) -> Layer:
        """The lungs outside heart and mediastinum."""
        return self.lung * (1 - self.mediastinum)

    @cached_property
    def air(self) -> Layer:
        """Depth of lung along the beam, 1 in the middle of a lung."""
        c = self.canvas
        wall = np.clip(self.wall_distance * (1 / 0.12), 0, 1)
        base = np.clip(self.above_diaphragm * (1 / 0.05), 0, 1)
        top = np.clip((c.y - np.float32(self.anatomy.apex - 0.01)) * (1 / 0.16), 0, 1)
        depth = (0.30 + 0.70 * wall * (2 - wall)) * (0.72 + 0.28 * base) * (0.55 + 0.45 * top * (2 - top))
        return self.lung * depth * (1 - 0.80 * self.mediastinum)

    @cached_property
    def heart(self) -> Layer:
        """The silhouette of the heart."""
        body, c = self.anatomy, self.canvas
        right, left = body.heart
        tall, y = 0.125 * body.heart_height, self.heart_center
        atrium = c.disk((-0.25 * right + self.shift, y + 0.010), (0.75 * right, 0.95 * tall), -0.10, 0.010)
        # An ellipse turned by `angle` reaches sqrt((a cos)^2 + (b sin)^2) sideways: the long axis that reaches `left`.
        middle, angle, short = 0.34 * left, 0.55, 0.74 * tall
        long = np.sqrt(max((left - middle) ** 2 - (short * np.sin(angle)) ** 2, short**2)) / np.cos(angle)
        ventricle = c.disk((middle + self.shift, y + 0.022), (long, short), angle, 0.012)
        base = c.disk((0.020 + self.shift, y - 0.085), (0.42 * (right + left) * 0.55, 0.15), -0.28, 0.012)
        return np.maximum(np.maximum(atrium, ventricle), base)

    @cached_property
    def heart_depth(self) -> Layer:
        """Thickness of the heart along the beam, 1 in its middle."""
        body, c = self.anatomy, self.canvas
        right, left = body.heart
        center = (0.5 * (left - right) + self.shift, self.heart_center + 0.01)
        radius = c.radius(center, (0.62 * (left + right), 0.17 * body.heart_height), 0.25)
        return self.heart * np.clip(1.1 - radius * radius, 0, 1)

    @cached_property
    def great_vessels(self) -> Layer:
        """Superior mediastinum, aortic arch, ascending and descending aorta, pulmonary trunk."""
        body, c = self.anatomy, self.canvas
        knob = c.disk(self.aortic_knob, (body.knob, body.knob * 1.05), 0.0, 0.004)
        trunk_y = self.hilum(True)[1] - 0.035
        trunk = c.disk((0.036 + self.shift, trunk_y), (0.036, 0.060), -0.15, 0.014)
        along = (c.y - np.float32(body.apex)) * np.float32(1 / (self.heart_center - body.apex))
        bulge = 4 * along * (1 - along)
        right = 0.048 + np.float32(body.unfolding * 1.2) * np.clip(bulge, 0, 1)
        x = c.x - np.float32(self.shift)
        pedicle = c.inside(-x - right, 0.010) * c.inside(x - 0.044, 0.010)
        return np.maximum(np.maximum(knob, trunk), pedicle * c.inside(c.y - np.float32(self.heart_center)))

    @cached_property
    def descending_aorta(self) -> Layer:
        """The descending aorta behind the heart; visible beside it where unfolded."""
        body, c = self.anatomy, self.canvas
        along = np.clip((c.y - np.float32(self.aortic_knob[1])) * np.float32(1 / (0.92 - self.aortic_knob[1])), 0, 1)
        edge = np.float32(0.046 + self.shift) + np.float32(2.6 * body.unfolding) * np.sqrt(along) * (1 - along) * 2
        return c.inside(c.x - edge, 0.006) * c.inside(-c.x) * c.inside(np.float32(self.aortic_knob[1]) - c.y)

    @cached_property
    def mediastinum(self) -> Layer:
        """Heart, great vessels and spine together."""
        return np.maximum(np.maximum(self.heart, self.great_vessels), 0.9 * self.descending_aorta)

    @cached_property
    def body(self) -> Layer:
        """The outline of neck, shoulders and trunk."""
        c, body = self.canvas, self.anatomy
        trapezius = np.maximum(c.aside - 0.10, 0)
        shoulder = -0.055 + 0.34 * trapezius + 0.25 * trapezius * trapezius
        upper = c.inside(shoulder - c.y, 0.006)
        flank = self.lateral(np.maximum(c.y, 0.45)) + np.float32(body.wall)
        fold = np.clip((0.47 - c.y) * (1 / 0.28), 0, 1)
        edge = flank + 0.28 * fold * fold + np.float32(0.03 * body.breast) * self._breast_level
        return upper * c.inside(c.aside - edge, 0.004)

    @cached_property
    def _breast_level(self) -> Layer:
        return np.clip(1 - np.abs(self.canvas.y - 0.66) * (1 / 0.15), 0, 1)

    @cached_property
    def soft_tissue(self) -> Layer:
        """Attenuation of trunk, breasts, heart and abdomen, before the air of the lungs is subtracted."""
        c, body = self.canvas, self.anatomy
        across = c.aside * (1 / 0.62)
        lower = np.clip((c.y - 0.15) * (1 / 0.85), 0, 1)
        depth = (1 - across * across) * (1.42 + 0.42 * lower) * np.float32(body.bulk)
        tissue = depth * self.body
        tissue += 0.30 * self.mediastinum + 0.14 * self.heart_depth
        below = np.clip(-self.above_diaphragm * (1 / 0.10), 0, 1)
        tissue += 0.38 * below * c.inside(-self.wall_distance)
        if body.breast:
            height = 0.56 + 0.03 * body.breast
            wide = 0.085 + 0.055 * body.breast
            for sign in (-1, 1):
                radius = c.radius((sign * 0.215, height), (wide * 1.25, wide * 1.35))
                dome = np.clip(1.05 - radius, 0, 1)
                tissue += np.float32(0.62 * body.breast) * np.sqrt(dome) * 0.55
        else:
            fold = c.disk((0.0, 0.18), (0.42, 0.22), 0.0, 0.05)
            tissue += 0.07 * fold
        if body.chin:
            tissue += np.float32(0.6 * min(body.chin, 1.2)) * c.disk(
                (0.3 * self.shift, 0.02 + 0.05 * body.chin), (0.13, 0.05 + 0.07 * body.chin), 0.0, 0.07
            )
        return tissue

    @cached_property
    def airways(self) -> Layer:
        """Trachea and main bronchi, as air."""
        c = self.canvas
        carina = self.aortic_knob[1] + 0.075
        center = np.float32(self.shift * 1.2 - 0.004)
        trachea = c.inside(np.abs(c.x - center) - 0.020, 0.006) * c.inside(c.y - np.float32(carina))
        start = (float(center), carina - 0.01)
        paths = [
            [start, (start[0] + reach * 0.55, carina + drop * 0.5), (start[0] + reach, carina + drop)]
            for reach, drop in ((-0.055, 0.07), (0.075, 0.065))
        ]
        return np.minimum(trachea + c.strokes(np.array(paths), 0.024), 1)

    @cached_property
    def from_spine(self) -> Layer:
        """Distance x from the axis of the spine."""
        c = self.canvas
        bend = np.float32(self.anatomy.scoliosis) * np.sin(c.y * np.float32(2 * np.pi * 0.9))
        return c.x - np.float32(0.25 * self.shift) - bend

    @cached_property
    def bowel_gas(self) -> Layer:
        """The gastric bubble with its level, and gas of the colon."""
        c, body, rng = self.canvas, self.anatomy, self._rng
        layer = np.zeros_like(c.x)
        if body.bubble > 0.012:
            center = (0.165 + rng.uniform(-0.03, 0.03), body.dome[1] + 0.030 + body.bubble * 0.75)
            stomach = c.disk(center, (body.bubble * 1.35, body.bubble * 0.8), 0.15, 0.008)
            if rng.random() < 0.5 and not self.exposure.bedside:
                stomach = stomach * c.inside(c.y - np.float32(center[1] + 0.25 * body.bubble), 0.003)
            layer += 0.55 * stomach
        for _ in range(int(rng.integers(0, 4))):
            place = (rng.uniform(0.05, 0.33), body.dome[1] + rng.uniform(0.09, 0.22))
            axes = (rng.uniform(0.012, 0.035), rng.uniform(0.010, 0.022))
            layer += 0.3 * c.disk(place, axes, rng.uniform(-1, 1), 0.01)
        return layer * c.inside(self.above_diaphragm + 0.012)

    @cached_property
    def gas(self) -> Layer:
        """Attenuation that the air of lungs, airways and bowel subtracts."""
        lungs = np.float32(AIR * self.anatomy.air) * self.air
        return lungs + 0.42 * self.airways * self.body + self.bowel_gas
