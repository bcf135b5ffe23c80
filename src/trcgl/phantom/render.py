"""From a specification to a phantom: pixels, a mask per finding, and facts about each lesion.

Every random choice has a seed of its own: the seed of the anatomy depends on the patient, that of exposure and noise on
the image, and that of a finding on the image and the name of the finding. So an image with a finding added or removed
is otherwise identical.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trcgl.core.errors import DataError
from trcgl.core.randomness import generator
from trcgl.phantom import anatomy as anatomies
from trcgl.phantom.anatomy import Anatomy, Sex
from trcgl.phantom.chest import Change, Chest, Mask
from trcgl.phantom.film import Pixels, expose
from trcgl.phantom.findings import FINDINGS
from trcgl.phantom.skeleton import bones
from trcgl.phantom.vasculature import pulmonary_vessels

_BENCHMARK = 0.75
"""Scale of difficulty 1: lesions a third stronger than their functions render, so that the tail mAP of a plain network
lies between .3 and .7 on the default benchmark and improvements are visible."""


@dataclass(frozen=True)
class PhantomSpec:
    """Everything that determines a phantom."""

    seed: int = 0  # of the whole set
    patient: int | str = 0  # name or number; determines the anatomy
    image: int | str = 0  # name or number; determines exposure, noise and lesions
    findings: tuple[str, ...] = ()  # names of PadChest-30; `Normal` renders nothing
    age: float = 55.0  # years
    sex: Sex = "F"
    size: int = 96  # side in pixels
    difficulty: float = 1.0  # determines `contrast`, `extent` and `noise`

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.findings) - set(FINDINGS)):
            raise DataError(f"unknown finding {', '.join(unknown)}; a phantom can have {', '.join(FINDINGS)}.")
        if self.size < 16:
            raise DataError(f"a phantom of {self.size} px shows nothing: give a size of 16 or more.")
        if self.difficulty <= 0:
            raise DataError(f"difficulty {self.difficulty}: give a number above 0; 1 is the benchmark.")

    @property
    def contrast(self) -> float:
        """Factor on the attenuation of lesions: 1 at difficulty 4/3, falls as 1 / difficulty."""
        return 1 / (_BENCHMARK * self.difficulty)

    @property
    def extent(self) -> float:
        """Factor on the size of lesions: falls as difficulty^-1/3."""
        return float((_BENCHMARK * self.difficulty) ** (-1 / 3))

    @property
    def noise(self) -> float:
        """Factor on quantum noise: grows as difficulty^1/2."""
        return float((_BENCHMARK * self.difficulty) ** 0.5)


@dataclass(frozen=True)
class Phantom:
    """A rendered radiograph."""

    pixels: Pixels
    masks: dict[str, Mask]  # by finding; findings that are not visible (`Normal`) have none
    facts: dict[str, Any]  # by finding, the measures of the lesion; and `age`, `sex` and `cardiothoracic ratio`


def render(spec: PhantomSpec) -> Phantom:
    """Render a phantom; the same specification always gives the same pixels."""
    chest, changes = _findings(spec)
    vessels = pulmonary_vessels(chest, generator(spec.seed, "phantom vessels", spec.patient))
    added = np.zeros_like(vessels)
    for change in changes.values():
        added += change.attenuation
        if change.vessels is not None:
            vessels = vessels * change.vessels
    total = chest.soft_tissue + bones(chest) - chest.gas + vessels + added
    noise = generator(spec.seed, "phantom noise", spec.image)
    pixels = expose(total, chest.canvas, chest.exposure, noise)
    body = chest.anatomy
    facts: dict[str, Any] = {
        "age": spec.age,
        "sex": spec.sex,
        "cardiothoracic ratio": sum(body.heart) / (2 * body.chest),
        **{name: change.facts for name, change in changes.items()},
    }
    return Phantom(pixels, {name: change.mask for name, change in changes.items() if change.mask.any()}, facts)


def render_masks(spec: PhantomSpec) -> dict[str, Mask]:
    """The masks of `render` only, at about a third of its cost."""
    return {name: change.mask for name, change in _findings(spec)[1].items() if change.mask.any()}


def _findings(spec: PhantomSpec) -> tuple[Chest, dict[str, Change]]:
    taken = anatomies.exposure(generator(spec.seed, "phantom exposure", spec.image), noise=spec.noise)
    healthy = anatomies.patient(generator(spec.seed, "phantom patient", spec.patient), spec.age, spec.sex)
    names = [name for name in FINDINGS if name in spec.findings]
    shape, steps = healthy, {}
    for name in names:
        if reshape := FINDINGS[name].reshape:
            steps[name] = shape
            shape = reshape(shape, generator(spec.seed, "phantom shape", spec.image, name), spec.extent)

    def chest_of(anatomy: Anatomy) -> Chest:
        bowel = generator(spec.seed, "phantom bowel", spec.patient)
        return Chest(anatomy, taken, spec.size, bowel, contrast=spec.contrast, extent=spec.extent)

    chest = chest_of(shape)
    changes = {}
    for name in names:
        finding = FINDINGS[name]
        if finding.render:
            changes[name] = finding.render(chest, generator(spec.seed, "phantom finding", spec.image, name))
        elif finding.where:
            mask = finding.where(chest, chest_of(steps[name]))
            changes[name] = Change(np.zeros_like(chest.canvas.x), mask)
    return chest, changes


@dataclass(frozen=True)
class Lesion:
    """Size and contrast of a finding in a phantom.

    The contrast is the mean absolute difference of gray within the mask to the same phantom without the finding.
    """

    area: float  # area of its mask as a share of the image
    contrast: float  # share of the range from black to white


def flipped(spec: PhantomSpec, finding: str) -> PhantomSpec:
    """The specification with the finding added, or removed if it was there."""
    if finding in spec.findings:
        return replace(spec, findings=tuple(name for name in spec.findings if name != finding))
    return replace(spec, findings=(*spec.findings, finding))


def lesion(spec: PhantomSpec, finding: str, phantom: Phantom | None = None) -> Lesion | None:
    """Size and contrast of a finding; None if it is not visible."""
    phantom = phantom or render(spec)
    mask = phantom.masks.get(finding)
    if mask is None:
        return None
    without = render(flipped(spec, finding)).pixels
    difference = np.abs(phantom.pixels.astype(np.int64) - without.astype(np.int64))
    return Lesion(float(mask.mean()), float(difference[mask].mean()) / 255)
