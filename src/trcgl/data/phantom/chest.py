"""The thorax on the canvas: what each structure adds to or takes from the attenuation of the beam.

Attenuation adds up along the beam, so structures overlie each other as on a radiograph: a rib shows through the heart,
and air takes away what tissue gave. The film turns the sum into gray once, at the end.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from trcgl.data.phantom.anatomy import Anatomy, Exposure, breathed
from trcgl.data.phantom.canvas import Canvas, Layer

AIR = 1.16
"""Attenuation that a full depth of lung takes away."""
DOME = 0.19
"""Distance of the top of each diaphragm dome from the midline."""
WIDEST = 0.70
"""Height at which the rib cage is widest."""


class Chest:
    """One thorax on one canvas; findings read its layers and points.

    Args:
        anatomy: the patient, with whatever anatomical findings change.
        exposure: how the radiograph is taken.
        size: side in pixels.
        rng: of what has no name: the course of vessels, bowel gas.
        contrast: factor on what lesions add to the attenuation.
        extent: factor on the size of lesions.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        exposure: Exposure,
        size: int,
        rng: np.random.Generator,
        *,
        contrast: float = 1.0,
        extent: float = 1.0,
    ) -> None:
        self.contrast, self.extent = contrast, extent
        self.anatomy, self.exposure = breathed(anatomy, exposure), exposure
        self.canvas = Canvas(size, exposure.pose)
        self.shift = 0.012 * exposure.turn
        self._vessel_rng, self._gas_rng = rng.spawn(2)

    # Points and lines

    def side(self, left: bool) -> Bool[np.ndarray, "size size"]:
        """True on one side of the midline."""
        return self.canvas.patients_left if left else ~self.canvas.patients_left

    def lateral(self, y: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Half-width of the rib cage at a height."""
        body = self.anatomy
        rise = np.clip((WIDEST - y) * (1 / (WIDEST - body.apex)), 0, 1)
        inner = 0.15
        below = np.maximum(y - WIDEST, 0)
        return inner + (body.chest - inner) * np.sqrt(1 - rise * rise * rise) - 0.5 * below * below

    def half_width(self, y: float) -> float:
        """`lateral` at one height."""
        return float(self.lateral(np.full(1, y))[0])

    def hilum(self, left: bool) -> tuple[float, float]:
        """Center of the hilum of one side; the left one is higher."""
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

        Args:
            rng: of the point.
            left: the patient's left lung.
            high: highest place, 0 for the apex.
            low: lowest place, 1 for the dome.
            margin: distance from chest wall and diaphragm.
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
        return (
            dome + curve * (np.float32(0.4) * out + np.float32(0.6) * out * out + np.float32(0.25) * into * into) - c.y
        )

    @cached_property
    def lung(self) -> Layer:
        """Both lungs as seen in projection, with what lies behind heart and dome left out."""
        c = self.canvas
        rise = np.clip((self.anatomy.apex + 0.13 - c.y) * np.float32(1 / 0.13), 0, 1)
        medial = np.abs(c.x - np.float32(self.shift)) - (np.float32(0.052) + np.float32(0.10) * rise * rise * rise)
        within = c.inside(-self.wall_distance) * c.inside(-self.above_diaphragm) * c.inside(-medial, 0.012)
        return within * c.inside(self.anatomy.apex - c.y)

    @cached_property
    def open_lung(self) -> Layer:
        """The lungs where neither heart nor mediastinum lies before them."""
        return self.lung * (1 - self.mediastinum)

    @cached_property
    def air(self) -> Layer:
        """Depth of lung along the beam, 1 in the middle of a lung."""
        c = self.canvas
        wall = np.clip(self.wall_distance * np.float32(1 / 0.12), 0, 1)
        base = np.clip(self.above_diaphragm * np.float32(1 / 0.05), 0, 1)
        top = np.clip((c.y - np.float32(self.anatomy.apex - 0.01)) * np.float32(1 / 0.16), 0, 1)
        depth = (0.30 + 0.70 * wall * (2 - wall)) * (0.72 + 0.28 * base) * (0.55 + 0.45 * top * (2 - top))
        return self.lung * depth * (1 - np.float32(0.80) * self.mediastinum)

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
        right = np.float32(0.048) + np.float32(body.unfolding * 1.2) * np.clip(bulge, 0, 1)
        x = c.x - np.float32(self.shift)
        pedicle = c.inside(-x - right, 0.010) * c.inside(x - np.float32(0.044), 0.010)
        return np.maximum(np.maximum(knob, trunk), pedicle * c.inside(c.y - np.float32(self.heart_center)))

    @cached_property
    def descending_aorta(self) -> Layer:
        """The descending aorta, behind the heart; it leaves its shadow where it is unfolded."""
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
        trapezius = np.maximum(c.aside - np.float32(0.10), 0)
        shoulder = np.float32(-0.055) + np.float32(0.34) * trapezius + np.float32(0.25) * trapezius * trapezius
        upper = c.inside(shoulder - c.y, 0.006)
        flank = self.lateral(np.maximum(c.y, np.float32(0.45))) + np.float32(body.wall)
        fold = np.clip((np.float32(0.47) - c.y) * np.float32(1 / 0.28), 0, 1)
        edge = flank + np.float32(0.28) * fold * fold + np.float32(0.03 * body.breast) * self._breast_level
        return upper * c.inside(c.aside - edge, 0.004)

    @cached_property
    def _breast_level(self) -> Layer:
        return np.clip(1 - np.abs(self.canvas.y - np.float32(0.66)) * np.float32(1 / 0.15), 0, 1)

    @cached_property
    def chest_wall(self) -> Layer:
        """Soft tissue at the sides and above the clavicles: body without rib cage."""
        return self.body * (1 - self.canvas.inside(-self.wall_distance) * self.canvas.inside(-self.above_diaphragm))

    @cached_property
    def soft_tissue(self) -> Layer:
        """Attenuation of trunk, breasts, heart and abdomen, before the lungs' air is taken away."""
        c, body = self.canvas, self.anatomy
        across = c.aside * np.float32(1 / 0.62)
        lower = np.clip((c.y - np.float32(0.15)) * np.float32(1 / 0.85), 0, 1)
        depth = (1 - across * across) * (np.float32(1.42) + np.float32(0.42) * lower) * np.float32(body.bulk)
        tissue = depth * self.body
        tissue += np.float32(0.30) * self.mediastinum + np.float32(0.14) * self.heart_depth
        below = np.clip(-self.above_diaphragm * np.float32(1 / 0.10), 0, 1)
        tissue += np.float32(0.38) * below * c.inside(-self.wall_distance)
        if body.breast:
            height = 0.56 + 0.03 * body.breast
            wide = 0.085 + 0.055 * body.breast
            for sign in (-1, 1):
                radius = c.radius((sign * 0.215, height), (wide * 1.25, wide * 1.35))
                dome = np.clip(1.05 - radius, 0, 1)
                tissue += np.float32(0.62 * body.breast) * np.sqrt(dome) * np.float32(0.55)
        else:
            fold = c.disk((0.0, 0.18), (0.42, 0.22), 0.0, 0.05)
            tissue += np.float32(0.07) * fold
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
        trachea = c.inside(np.abs(c.x - center) - np.float32(0.020), 0.006) * c.inside(c.y - np.float32(carina))
        start = (float(center), carina - 0.01)
        paths = []
        for left, reach, drop in ((False, 0.055, 0.07), (True, 0.075, 0.065)):
            sign = 1 if left else -1
            paths.append(
                [start, (start[0] + sign * reach * 0.55, carina + drop * 0.5), (start[0] + sign * reach, carina + drop)]
            )
        return np.minimum(trachea + c.strokes(np.array(paths), 0.024), 1)

    @cached_property
    def spine(self) -> Layer:
        """Vertebral bodies with their discs, and spinous processes."""
        c, body = self.canvas, self.anatomy
        x = self.from_spine
        column = c.inside(np.abs(x) - np.float32(0.042), 0.008)
        phase = c.y * np.float32(2 * np.pi / body.vertebra)
        endplates = np.cos(phase)
        pedicles = np.clip(1 - np.abs(np.abs(x) - np.float32(0.026)) * np.float32(1 / 0.009), 0, 1)
        process = np.clip(1 - np.abs(x) * np.float32(1 / 0.008), 0, 1)
        return column * (
            np.float32(0.72)
            + np.float32(0.20) * endplates
            - np.float32(0.22) * endplates * pedicles
            + np.float32(0.16) * process * (1 - endplates)
        )

    @cached_property
    def from_spine(self) -> Layer:
        """Distance x from the axis of the spine."""
        c = self.canvas
        bend = np.float32(self.anatomy.scoliosis) * np.sin(c.y * np.float32(2 * np.pi * 0.9))
        return c.x - np.float32(0.25 * self.shift) - bend

    def rib_phase(self) -> tuple[Layer, Layer]:
        """Number of the posterior and the anterior rib at each pixel, as real numbers: whole on a rib's midline."""
        body, c = self.anatomy, self.canvas
        outward = c.aside * np.float32(1 / body.chest)
        arch = outward * outward * np.float32(0.14 * body.rib_slope) - np.float32(0.035) * outward * (1 - outward)
        behind = (c.y - np.float32(body.apex - 0.005) - arch) * np.float32(1 / body.rib_spacing)
        gap = np.maximum(1 - outward, 0)
        before = (c.y - np.float32(body.apex + 0.10) - np.float32(0.20 * body.rib_slope + 0.06) * gap) * np.float32(
            1 / (body.rib_spacing * 1.12)
        )
        return behind, before

    def ribs(self, behind: Layer, before: Layer) -> Layer:
        """The ribs for given rib numbers."""
        c = self.canvas
        soft = np.float32(self.anatomy.rib_spacing / (c.pixel + 0.004))
        edge = np.clip((self.wall_distance + np.float32(0.014)) * np.float32(1 / 0.012), 0, 1)

        def bands(phase: Layer, half: float, last: float) -> Layer:
            away = np.abs(phase - np.rint(phase))
            band = np.clip(0.5 - (away - np.float32(half)) * soft, 0, 1)
            rim = np.clip(1 - np.abs(away - np.float32(half - 0.05)) * np.float32(1 / 0.09), 0, 1)
            there = np.clip(phase + 0.5, 0, 1) * np.clip(np.float32(last) - phase, 0, 1)
            return band * (np.float32(0.7) + np.float32(0.5) * rim) * there

        posterior = bands(behind, 0.20, 10.6) * np.clip((c.aside - np.float32(0.035)) * np.float32(1 / 0.02), 0, 1)
        cartilage = np.clip((c.aside - np.float32(0.17)) * np.float32(1 / 0.10), 0, 1)
        anterior = bands(before, 0.21, 6.6) * cartilage
        return edge * (posterior + np.float32(0.48) * anterior)

    def clavicle_height(self, along: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Height of the clavicle's axis, `along` from 0 at the sternum to 1 at the shoulder."""
        bow = np.sin(along * np.float32(2 * np.pi)) * np.float32(0.018)
        return bow - np.float32(0.085) * along + np.float32(self.anatomy.clavicle)

    def clavicles(self, displaced: dict[bool, tuple[float, float]] | None = None) -> Layer:
        """Both clavicles; `displaced` maps a side to where its outer part is broken off, and how far it sank."""
        c = self.canvas
        along = (c.aside - np.float32(0.035) - np.sign(c.x) * np.float32(0.6 * self.shift)) * np.float32(1 / 0.32)
        axis = self.clavicle_height(along)
        for left, (place, drop) in (displaced or {}).items():
            axis = axis + np.where(self.side(left) & (along > place), np.float32(drop), np.float32(0))
        half = np.float32(0.0095) + np.float32(0.005) * np.abs(along - 0.5)
        away = np.abs(c.y - axis) - half
        shaft = c.inside(away, 0.003)
        cortex = np.clip(1 - np.abs(away + np.float32(0.003)) * np.float32(1 / (0.004 + c.pixel)), 0, 1)
        ends = c.inside(-along * 0.32, 0.004) * c.inside((along - 1) * 0.32, 0.01)
        for left, (place, _) in (displaced or {}).items():
            gap = np.abs(along - np.float32(place)) * np.float32(0.32)
            ends = ends * np.where(self.side(left), np.clip(gap / np.float32(0.8 * c.pixel + 0.003), 0, 1), 1)
        return ends * (np.float32(0.7) * shaft + np.float32(0.45) * cortex)

    @cached_property
    def shoulders(self) -> Layer:
        """Scapulae and humeral heads."""
        c, bedside = self.canvas, self.exposure.bedside
        inward = 0.045 if bedside else 0.0
        layer = np.zeros_like(c.x)
        for sign in (-1, 1):
            x = sign * c.x + np.float32(inward)
            border = np.float32(0.325) + np.float32(0.22) * (c.y - np.float32(0.14))
            blade = c.inside(border - x, 0.004) * c.inside(x - border - np.float32(0.10), 0.05)
            blade = (
                blade
                * c.inside(np.float32(0.12) - c.y, 0.02)
                * c.inside(c.y - np.float32(0.43) + 0.3 * (x - border), 0.01)
            )
            rim = np.clip(1 - np.abs(x - border - np.float32(0.004)) * np.float32(1 / (0.006 + c.pixel)), 0, 1)
            layer += blade * (np.float32(0.35) + np.float32(0.5) * rim)
            head = c.disk((sign * (0.475 - inward), 0.135), (0.052, 0.055), 0.0, 0.012)
            shaft = c.disk((sign * (0.520 - inward), 0.32), (0.027, 0.20), sign * -0.10, 0.010)
            layer = np.maximum(layer, np.float32(0.6) * np.maximum(head, shaft))
            layer = np.maximum(
                layer, np.float32(0.8) * c.disk((sign * (0.40 - inward), 0.075), (0.05, 0.016), sign * 0.25, 0.006)
            )
        return layer

    @cached_property
    def bones(self) -> Layer:
        """Attenuation of the skeleton."""
        bone = np.float32(0.26) * self.ribs(*self.rib_phase())
        bone += np.float32(0.27) * self.spine
        bone += np.float32(0.30) * self.clavicles()
        bone += np.float32(0.26) * self.shoulders * self.body
        return bone * np.float32(self.anatomy.bone)

    @cached_property
    def vessels(self) -> Layer:
        """Hila and pulmonary vessels over open lung."""
        c, body = self.canvas, self.anatomy
        layer = np.zeros_like(c.x)
        large, small = [], []
        for left in (False, True):
            rng = self._vessel_rng
            paths, twigs = self._tree(rng, left)
            large.append(paths)
            small.append(twigs)
            x, y = self.hilum(left)
            grown = body.hilum[left]
            sign = 1 if left else -1
            layer += np.float32(0.80) * c.disk((x, y), (0.030 * grown, 0.046 * grown), sign * -0.35, 0.028)
            tail = c.disk((x + sign * 0.012, y + 0.055), (0.017 * grown, 0.050), sign * -0.30, 0.016)
            layer += np.float32(0.75) * tail
        fade = np.linspace(1, 0.22, large[0].shape[1])[None]
        layer += np.float32(1.15) * c.strokes(np.concatenate(large), 0.0115, fade)
        thin = np.linspace(1, 0.3, small[0].shape[1])[None]
        layer += c.strokes(np.concatenate(small), 0.0062, thin)
        return layer * self.lung * np.float32(0.24 * body.vessels)

    def _tree(self, rng: np.random.Generator, left: bool) -> tuple[np.ndarray, np.ndarray]:
        """Branches (B, n, 2) from the hilum to the pleura and twigs (T, m, 2) off them."""
        x, y = self.hilum(left)
        sign = 1 if left else -1
        count = 10
        body = self.anatomy
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
        twigs_per = 4
        where = rng.integers(2, 7, (count, twigs_per))
        origin = paths[np.arange(count)[:, None], where]
        off = np.where(rng.random((count, twigs_per)) < 0.5, -1, 1) * rng.uniform(0.4, 0.9, (count, twigs_per))
        course = heading[np.arange(count)[:, None], where] + off
        span = length * rng.uniform(0.22, 0.45, (count, twigs_per))
        s = np.linspace(0, 1, 5)
        curve = course[..., None] - 0.4 * np.sign(off)[..., None] * s
        twigs = np.stack(
            [
                origin[..., 0, None] + sign * span[..., None] * s * np.cos(curve),
                origin[..., 1, None] + span[..., None] * s * np.sin(curve),
            ],
            -1,
        )
        return paths, twigs.reshape(count * twigs_per, 5, 2)

    @cached_property
    def bowel_gas(self) -> Layer:
        """The gastric bubble with its level, and gas of the colon."""
        c, body, rng = self.canvas, self.anatomy, self._gas_rng
        layer = np.zeros_like(c.x)
        if body.bubble > 0.012:
            center = (0.165 + rng.uniform(-0.03, 0.03), body.dome[1] + 0.030 + body.bubble * 0.75)
            stomach = c.disk(center, (body.bubble * 1.35, body.bubble * 0.8), 0.15, 0.008)
            if rng.random() < 0.5 and not self.exposure.bedside:
                stomach = stomach * c.inside(c.y - np.float32(center[1] + 0.25 * body.bubble), 0.003)
            layer += np.float32(0.55) * stomach
        for _ in range(int(rng.integers(0, 4))):
            place = (rng.uniform(0.05, 0.33), body.dome[1] + rng.uniform(0.09, 0.22))
            axes = (rng.uniform(0.012, 0.035), rng.uniform(0.010, 0.022))
            layer += np.float32(0.3) * c.disk(place, axes, rng.uniform(-1, 1), 0.01)
        return layer * c.inside(self.above_diaphragm + np.float32(0.012))

    def without_vessels(self) -> Layer:
        """Attenuation of the healthy thorax, but for the vessels of the lungs."""
        total = self.soft_tissue + self.bones
        total -= np.float32(AIR * self.anatomy.air) * self.air
        total -= np.float32(0.42) * self.airways * self.body + self.bowel_gas
        return total
