"""Structure: does a synthetic phantom have the finding as the phantom program renders it, or a texture in its place?

The phantom program is known: `estimate_thorax` estimates the healthy thorax of an image, and each structure check
measures in the residual whether dots are compact, lines continue, levels are flat and streaks have a direction. The
conditions and thresholds are in `STRUCTURES`; they were set on rendered phantoms, never on synthetic images.
How often each check is right: docs/structure-checks.md.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from joblib import Parallel, delayed

from trcgl.audit import structure_measures as measures
from trcgl.audit.check import PASS, TOO_EASY, Check, Evidence, Verdict
from trcgl.audit.intervals import rate
from trcgl.audit.sample_plan import WITH, WITHOUT
from trcgl.audit.thorax import Thorax, estimate_thorax
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator

_WORTH_PROCESSES = 64  # images; fewer are checked before worker processes have started
_SMALLEST = 48  # smallest side in pixels: the pixels of smaller images are larger than the lines to be found


@dataclass(frozen=True)
class Condition:
    """A condition on one measured number of an image."""

    number: str  # name of the measured number
    otherwise: str  # description of an image that fails
    least: float = -np.inf  # smallest value that passes
    most: float = np.inf  # largest value that passes

    def met(self, measured: dict[str, float]) -> bool:
        """Whether an image passes; an undefined number does not."""
        return bool(self.least <= measured[self.number] <= self.most)


class Structure(NamedTuple):
    """Result of a structure check on some images."""

    holds: Bool[np.ndarray, " images"]  # whether each image has the structure of the finding
    measured: dict[str, Float[np.ndarray, " images"]]  # the measured numbers by name
    why: list[str | None]  # the first condition that each image fails


STRUCTURES: dict[str, tuple[Callable[[Thorax], dict[str, float]], *tuple[Condition, ...]]] = {
    "calcified densities": (
        measures.calcified_dots,
        Condition("bright", "no bright dots", least=1.05),
        Condition("bright", "spots brighter than calcium", most=2.6),
        Condition("dots", "a single dot", least=2.0),
        Condition("dots", "too many dots", most=7.0),
        Condition("area", "dots too large", most=3.0),
        Condition("whole", "more a patch than dots", most=7.5),
    ),
    "hyperinflated lung": (
        measures.hyperinflation,
        Condition("curve", "domes are not flat", most=0.047),
        Condition("slender", "lungs are not long or the heart is not narrow", least=0.4),
    ),
    "Pneumothorax": (
        measures.pneumothorax,
        Condition("line", "no continuous line beside the chest wall", least=0.13),
        Condition("wobble", "the line does not follow the chest wall", most=0.007),
        Condition("dark beyond", "not darker beyond the line", least=0.0),
    ),
    "azygos lobe": (
        measures.azygos_fissure,
        Condition("line", "no continuous line in the right upper lung", least=0.115),
        Condition("uneven", "the line is spotty", most=0.45),
        Condition("aside", "the line runs elsewhere", most=0.03),
    ),
    "Subcutaneous Emphysema": (
        measures.subcutaneous_emphysema,
        Condition("dark", "no dark streaks in the soft tissue", least=0.014),
        Condition("coherence", "speckle without a direction", least=0.38),
        Condition("turned", "streaks do not run along the fibers", most=26.0),
    ),
    "pneumoperitoneo": (
        measures.pneumoperitoneum,
        Condition("line", "no thin line on a dome", least=0.22),
        Condition("dark", "no dark crescent below the line", least=0.65),
        Condition("uneven", "the crescent is spotty", most=0.18),
        Condition("wobble", "the line does not follow the dome", most=0.004),
    ),
    "Hydropneumothorax": (
        measures.hydropneumothorax,
        Condition("step", "no level from dark to bright across a side", least=0.45),
        Condition("flat", "the level is not flat", least=0.86),
        Condition("uneven", "the level is spotty", most=0.5),
        Condition("line", "no line of a collapsed lung above the level", least=0.16),
        Condition("wobble", "that line does not follow the chest wall", most=0.008),
    ),
}
"""Finding of the tail: what measures one image, and the conditions that must all be met by its numbers."""


def _measured(measure: Callable[[Thorax], dict[str, float]], image: UInt8[np.ndarray, "size size"]) -> dict[str, float]:
    return measure(estimate_thorax(image))


def structure_checks(images: UInt8[np.ndarray, "images size size"], finding: str) -> Structure:
    """Look for the structure of one finding in phantoms of at least 48 px: 0.1 s per image and core."""
    if finding not in STRUCTURES:
        raise DataError(f"no structure check for {finding!r}; there is one for {', '.join(STRUCTURES)}.")
    if images.shape[1] < _SMALLEST:
        raise DataError(f"images of {images.shape[1]} px are too small for structure checks: give {_SMALLEST} or more.")
    measure, *conditions = STRUCTURES[finding]
    several = len(images) >= _WORTH_PROCESSES
    measured = Parallel(n_jobs=-1 if several else 1)(delayed(_measured)(measure, image) for image in images)
    why = [
        next((condition.otherwise for condition in conditions if not condition.met(numbers)), None)
        for numbers in measured
    ]
    names = dict.fromkeys(condition.number for condition in conditions)
    numbers = {name: np.array([of_image[name] for of_image in measured], float) for name in names}
    return Structure(np.array([reason is None for reason in why], bool), numbers, why)


def of_finding(evidence: Evidence, finding: str) -> dict[str, Any] | None:
    """Share of images with the structure of a finding; None for real radiographs and findings without a check.

    Rendered phantoms with and without the finding are the null: a check that the former fail or the latter pass has no
    meaning.
    """
    images, real = evidence.images, evidence.images.held_out
    if not images.phantom or finding not in STRUCTURES:
        return None
    with_sheet, without_sheet = images.sheets[WITH], images.sheets[WITHOUT]
    rows, counterparts = with_sheet.rows_of(finding), without_sheet.rows_of(finding)
    truth = real.truth[:, images.space.index(finding)]

    def some(known: int) -> np.ndarray:  # as many as synthetic images: estimating a thorax takes 0.1 s
        order = generator(evidence.seed, "structure", finding, known).permutation(np.flatnonzero(truth == known))
        return np.sort(order[: len(rows)])

    present, absent = some(1), some(0)
    groups = {
        "synthetic": (with_sheet.images[rows], with_sheet.patients(rows)),
        "synthetic_without": (without_sheet.images[counterparts], without_sheet.patients(counterparts)),
        "real": (images.pixels(real, present), real.patients(present)),
        "real_without": (images.pixels(real, absent), real.patients(absent)),
    }
    result: dict[str, Any] = {}
    for name, (pixels, patients) in groups.items():
        try:
            checked = structure_checks(np.asarray(pixels), finding)
        except DataError as error:  # too small to show the structure
            return {"why": str(error)}
        result[name] = {**rate(checked.holds, patients, seed=evidence.seed), "images": len(pixels)}
        if name == "synthetic":
            result["failed"] = dict(Counter(reason for reason in checked.why if reason).most_common())
    return result


def _verdict(result: dict[str, Any], so_far: Verdict) -> Verdict:
    if "synthetic" not in result or result["real"]["value"] is None:
        return so_far
    synthetic, real = result["synthetic"]["value"], result["real"]["value"]
    if synthetic >= 0.5 * real:
        return so_far
    fooled = ": the score is fooled" if so_far.word in (PASS, TOO_EASY) else ""
    return so_far.but(
        f"The structure of the finding is there in {synthetic:.0%} of synthetic and {real:.0%} of real images{fooled}."
    )


CHECK = Check(
    key="structure",
    order=70,
    title="Structure (phantoms)",
    null="rendered phantoms with and without the finding",
    of_finding=of_finding,
    verdict=_verdict,
)
