"""Is a finding drawn as the drawing program draws it, or is it a texture in the right place?

Structure checks are for phantoms, whose program is known: `estimate_thorax` finds the healthy thorax of a picture, and
each check measures in what is left over whether dots are compact, lines continue, levels are flat and streaks have a
direction. Every condition stands in `STRUCTURES` with its threshold; the thresholds were set on phantoms alone, never
on images that a generator drew. How often each check is right: docs/structure-checks.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from joblib import Parallel, delayed

from trcgl.audit.structure_air import pneumoperitoneum, subcutaneous_emphysema
from trcgl.audit.structure_lung import azygos_fissure, calcified_dots, hyperinflation
from trcgl.audit.structure_pleura import hydropneumothorax, pneumothorax
from trcgl.audit.thorax import Thorax, estimate_thorax
from trcgl.core.errors import DataError

_WORTH_PROCESSES = 64  # images; fewer are done before other processes have started
_SMALLEST = 48
"""Sides below this have pixels larger than the lines that are asked for."""


@dataclass(frozen=True)
class Condition:
    """One thing that is asked of a picture.

    Args:
        number: name of the measured number.
        least: smallest value that passes.
        most: largest value that passes.
        otherwise: what is said of a picture that fails.
    """

    number: str
    otherwise: str
    least: float = -np.inf
    most: float = np.inf

    def met(self, measured: dict[str, float]) -> bool:
        """Whether a picture passes; a number that is not defined does not."""
        return bool(self.least <= measured[self.number] <= self.most)


@dataclass(frozen=True)
class Check:
    """How one finding is checked.

    Args:
        measure: numbers of one picture.
        conditions: all must be met; the first that is not is the reason given.
    """

    measure: Callable[[Thorax], dict[str, float]]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Structure:
    """What a check found.

    Args:
        finding: that was looked for.
        holds: whether the finding is drawn as the program draws it.
        measured: the numbers that were looked at.
        why: the first condition that a picture fails.
    """

    finding: str
    holds: Bool[np.ndarray, " images"]
    measured: dict[str, Float[np.ndarray, " images"]]
    why: list[str | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; a number that is not defined is None."""
        numbers = {
            name: [round(float(one), 4) if np.isfinite(one) else None for one in values]
            for name, values in self.measured.items()
        }
        return {"finding": self.finding, "holds": self.holds.tolist(), "measured": numbers, "why": self.why}


STRUCTURES: dict[str, Check] = {
    "calcified densities": Check(
        calcified_dots,
        (
            Condition("bright", "no bright dots", least=1.05),
            Condition("bright", "spots brighter than calcium", most=2.6),
            Condition("dots", "a single dot", least=2.0),
            Condition("dots", "too many dots", most=7.0),
            Condition("area", "dots too large", most=3.0),
            Condition("whole", "more a patch than dots", most=7.5),
        ),
    ),
    "hyperinflated lung": Check(
        hyperinflation,
        (
            Condition("curve", "domes are not flat", most=0.047),
            Condition("slender", "lungs are not long or the heart is not narrow", least=0.4),
        ),
    ),
    "Pneumothorax": Check(
        pneumothorax,
        (
            Condition("line", "no continuous line beside the chest wall", least=0.13),
            Condition("wobble", "the line does not follow the chest wall", most=0.007),
            Condition("dark beyond", "not darker beyond the line", least=0.0),
        ),
    ),
    "azygos lobe": Check(
        azygos_fissure,
        (
            Condition("line", "no continuous line in the right upper lung", least=0.115),
            Condition("uneven", "the line is spotty", most=0.45),
            Condition("aside", "the line runs elsewhere", most=0.03),
        ),
    ),
    "Subcutaneous Emphysema": Check(
        subcutaneous_emphysema,
        (
            Condition("dark", "no dark streaks in the soft tissue", least=0.014),
            Condition("coherence", "speckle without a direction", least=0.38),
            Condition("turned", "streaks do not run along the fibers", most=26.0),
        ),
    ),
    "pneumoperitoneo": Check(
        pneumoperitoneum,
        (
            Condition("line", "no thin line on a dome", least=0.22),
            Condition("dark", "no dark crescent below the line", least=0.65),
            Condition("uneven", "the crescent is spotty", most=0.18),
            Condition("wobble", "the line does not follow the dome", most=0.004),
        ),
    ),
    "Hydropneumothorax": Check(
        hydropneumothorax,
        (
            Condition("step", "no level from dark to bright across a side", least=0.45),
            Condition("flat", "the level is not flat", least=0.86),
            Condition("uneven", "the level is spotty", most=0.5),
            Condition("line", "no line of a collapsed lung above the level", least=0.16),
            Condition("wobble", "that line does not follow the chest wall", most=0.008),
        ),
    ),
}
"""The findings of the tail."""


def _measure(measure: Callable[[Thorax], dict[str, float]], image: UInt8[np.ndarray, "size size"]) -> dict[str, float]:
    return measure(estimate_thorax(image))


def structure_checks(images: UInt8[np.ndarray, "images size size"], finding: str) -> Structure:
    """Look for the structure of one finding in phantoms, a tenth of a second each; many are shared among all cores.

    Args:
        images: radiographs in the style of the phantoms, of 48 px or more.
        finding: one of `STRUCTURES`.

    Raises:
        DataError: there is no check for the finding, or the images are too small to see it.
    """
    if finding not in STRUCTURES:
        raise DataError(f"no structure check for {finding!r}; there is one for {', '.join(STRUCTURES)}.")
    if images.shape[1] < _SMALLEST:
        raise DataError(f"images of {images.shape[1]} px are too small for structure checks: give {_SMALLEST} or more.")
    check = STRUCTURES[finding]
    several = len(images) >= _WORTH_PROCESSES
    measured = Parallel(n_jobs=-1 if several else 1)(delayed(_measure)(check.measure, image) for image in images)
    why = [next((one.otherwise for one in check.conditions if not one.met(numbers)), None) for numbers in measured]
    names = dict.fromkeys(one.number for one in check.conditions)
    return Structure(
        finding=finding,
        holds=np.array([one is None for one in why], bool),
        measured={name: np.array([numbers[name] for numbers in measured], float) for name in names},
        why=why,
    )
