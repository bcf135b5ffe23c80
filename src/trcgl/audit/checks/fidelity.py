"""How far drawn images are from held-out real ones, beside how far real training images are at the same numbers.

`compare_with_real` is for the images of one finding: an unbiased kernel distance with interval and p-value, patients
the unit. `overall` is for all images: Fréchet distance, precision, recall, density and coverage.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from trcgl.audit.kernels import (
    NEIGHBORS,
    Figure,
    Kernel,
    around,
    check,
    frechet,
    gaussian,
    group_sums,
    median_bandwidth,
    polynomial,
    reach,
)
from trcgl.audit.patients import PatientImages, apart
from trcgl.audit.permutation import LEVEL, TwoGroups
from trcgl.core.errors import RecipeError
from trcgl.core.randomness import generator

KERNELS = ("kid", "rbf")
FEWEST = 10
"""With fewer patients on a side neither the permutation test nor the jackknife holds its level."""
FIGURES = ("FD", "precision", "recall", "density", "coverage")
_ROUNDING = 1e-12  # the same division summed in another order
_DIVISIONS = 20  # random divisions for each draw of training patients


@dataclass(frozen=True)
class Fidelity:
    """Kernel distance between drawn and held-out real images.

    Args:
        kernel: `kid` or `rbf`.
        n_synthetic: images compared.
        n_real: held-out real images compared.
        n_null: training images in each comparison of the null: as many as drawn ones, or all there are.
        patients: how many on each side; of the drawn images, source patients.
        value: squared distance, drawn against held-out real; unbiased, so it may be negative.
        ci: its 95 % interval, by a jackknife over patients.
        p: how often the two are as far apart when patients change sides at random.
        null: the same distance of real training images from held-out real images.
        null_ci: where 95 % of random divisions of these real patients into groups of these numbers lie.
        bandwidth: of `rbf`: the median distance of two real images.
        why: why there is no value.
        null_why: why there is no null.
    """

    kernel: str
    n_synthetic: int
    n_real: int
    n_null: int
    patients: dict[str, int]
    value: float | None = None
    ci: tuple[float, float] | None = None
    p: float | None = None
    null: float | None = None
    null_ci: tuple[float, float] | None = None
    bandwidth: float | None = None
    why: str | None = None
    null_why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Beside:
    """A figure of drawn images beside the same of real training images, both against held-out real ones.

    Args:
        value: of drawn images; the mean where several draws of them were compared.
        null: of as many real training images; the mean over draws of them.
        null_range: lowest and highest of these draws and of as many random divisions of the real patients.
        why: why there is none.
    """

    value: float | None
    null: float | None
    null_range: tuple[float, float] | None
    why: str | None = None


@dataclass(frozen=True)
class Overall:
    """Fréchet distance (`FD`), precision, recall, density and coverage of all drawn images.

    Args:
        figures: by name.
        n: drawn images, or training images, in each comparison: these figures depend on it, so it is the same.
        n_real: held-out real images.
        features: dimension of the feature space.
        neighbors: k of the neighborhoods.
        patients: how many on each side; of the drawn images, source patients.
    """

    figures: dict[str, Beside]
    n: int
    n_real: int
    features: int
    neighbors: int
    patients: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


def compare_with_real(
    drawn: Float[np.ndarray, "drawn features"],
    held_out: Float[np.ndarray, "held features"],
    train: Float[np.ndarray, "train features"],
    *,
    drawn_sources: Sequence[str] | np.ndarray,
    held_out_patients: Sequence[str] | np.ndarray,
    train_patients: Sequence[str] | np.ndarray,
    kernel: str,
    seed: int,
    permutations: int = 999,
    repetitions: int = 50,
    most: int = 1000,
) -> Fidelity:
    """Distance of drawn from held-out real images of a finding, tested by permuting patients, and its null.

    Args:
        drawn: features of drawn images.
        held_out: features of real images of patients that took no part in training.
        train: features of real training images.
        drawn_sources: source patient of each drawn image; images of one source stay together.
        held_out_patients: patient of each held-out image.
        train_patients: patient of each training image.
        kernel: `kid`, or `rbf`.
        seed: of all draws.
        permutations: of the test; the smallest p-value is 1 / (permutations + 1).
        repetitions: draws of training patients for the null.
        most: images a side; of a larger one, randomly drawn patients take part.

    Raises:
        RecipeError: there is no such kernel.
        DataError: a feature is not finite, or a patient is held out and also trained on or drawn from.
    """
    if kernel not in KERNELS:
        raise RecipeError(f"no kernel {kernel!r}; there are {' and '.join(KERNELS)}.")
    ours, real, other = _sides(drawn, drawn_sources, held_out, held_out_patients, train, train_patients, most, seed)
    why = _too_few(ours, real)
    result = Fidelity(
        kernel=kernel,
        n_synthetic=len(ours.features),
        n_real=len(real.features),
        n_null=min(len(ours.features), len(other.features)),
        patients=_patients(ours, real, other),
        why=why,
        null_why=why or _too_few(other, real),
    )
    if why:
        return result
    check(np.concatenate([ours.features, real.features, other.features]))
    bandwidth = median_bandwidth(np.concatenate([real.features, other.features])) if kernel == "rbf" else None
    mean = _mean_kernel((real, ours, other), gaussian(bandwidth) if bandwidth is not None else polynomial)
    reals, first_of_train = np.arange(len(real.names)), len(real.names) + len(ours.names)
    groups = _against(mean, reals, np.arange(len(real.names), first_of_train))
    value = groups.value()
    permuted = groups.permuted(permutations, generator(seed, "fidelity", "permutation"))
    result = dataclasses.replace(
        result,
        value=value,
        ci=groups.interval(),
        p=(1 + int((permuted >= value - _ROUNDING).sum())) / (1 + permutations),
        bandwidth=bandwidth,
    )
    if result.null_why:
        return result
    nulls, divided = [], []
    for repetition in range(repetitions):
        draw = generator(seed, "fidelity", "null", repetition)
        chosen = other.choose(result.n_null, draw)
        if len(chosen) < FEWEST:
            few = f"{result.n_null} training images are of only {len(chosen)} patients, fewer than {FEWEST}"
            return dataclasses.replace(result, null_why=few)
        groups = _against(mean, reals, first_of_train + chosen)
        nulls.append(groups.value())
        divided.append(groups.permuted(_DIVISIONS, draw))
    low, high = np.quantile(np.concatenate(divided), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return dataclasses.replace(result, null=float(np.mean(nulls)), null_ci=(float(low), float(high)))


def overall(
    drawn: Float[np.ndarray, "drawn features"],
    held_out: Float[np.ndarray, "held features"],
    train: Float[np.ndarray, "train features"],
    *,
    drawn_sources: Sequence[str] | np.ndarray,
    held_out_patients: Sequence[str] | np.ndarray,
    train_patients: Sequence[str] | np.ndarray,
    seed: int,
    k: int = NEIGHBORS,
    repetitions: int = 5,
    most: int = 5000,
) -> Overall:
    """Fréchet distance, precision, recall, density and coverage of all drawn images, and their nulls at the same n.

    Args:
        drawn: features of drawn images.
        held_out: features of real images of patients that took no part in training.
        train: features of real training images.
        drawn_sources: source patient of each drawn image.
        held_out_patients: patient of each held-out image.
        train_patients: patient of each training image.
        seed: of all draws.
        k: neighbors that make an image's neighborhood.
        repetitions: draws of patients for the null, and for the value where there are more drawn than training images.
        most: images a side; of a larger one, randomly drawn patients take part.

    Raises:
        DataError: a feature is not finite, or a patient is held out and also trained on or drawn from.
    """
    ours, real, other = _sides(drawn, drawn_sources, held_out, held_out_patients, train, train_patients, most, seed)
    n = min(len(ours.features), len(other.features))
    why = _too_few(ours, real) or _too_few(other, real)
    if not why and (fewest := min(n, len(real.features))) < 2 * k:
        why = f"{fewest} images: neighborhoods of {k} take at least {2 * k}"
    values, nulls, divided = [], [], []
    real_reach = None if why else reach(real.features, k)
    for repetition in range(0 if real_reach is None else repetitions):
        draw = generator(seed, "overall", repetition)
        if not repetition or n < len(ours.features):
            values.append(_figures(real.features, real_reach, ours.sample(n, draw)[0].features, k))
        chosen, _ = other.sample(n, draw)
        nulls.append(_figures(real.features, real_reach, chosen.features, k))
        part, rest = real.together(chosen).sample(n, draw)
        divided.append(_figures(rest.features, None, part.features, k))
    return Overall(
        figures={name: _beside(name, values, nulls, divided, why) for name in FIGURES},
        n=n,
        n_real=len(real.features),
        features=drawn.shape[1],
        neighbors=k,
        patients=_patients(ours, real, other),
    )


def _sides(
    drawn: np.ndarray,
    drawn_sources: Sequence[str] | np.ndarray,
    held_out: np.ndarray,
    held_out_patients: Sequence[str] | np.ndarray,
    train: np.ndarray,
    train_patients: Sequence[str] | np.ndarray,
    most: int,
    seed: int,
) -> tuple[PatientImages, PatientImages, PatientImages]:
    """Drawn, held-out and training images, none more than `most`."""
    sides = [
        PatientImages.of(drawn, drawn_sources),
        PatientImages.of(held_out, held_out_patients),
        PatientImages.of(train, train_patients),
    ]
    apart(sides[1], sides[0], sides[2])
    ours, real, other = (side.at_most(most, generator(seed, "side", place)) for place, side in enumerate(sides))
    return ours, real, other


def _too_few(one: PatientImages, other: PatientImages) -> str | None:
    fewest = min(len(one.names), len(other.names))
    return f"images of {fewest} patients on a side; it takes {FEWEST}" if fewest < FEWEST else None


def _patients(ours: PatientImages, real: PatientImages, other: PatientImages) -> dict[str, int]:
    return {"drawn": len(ours.names), "held_out": len(real.names), "train": len(other.names)}


def _mean_kernel(sides: Sequence[PatientImages], kernel: Kernel) -> Float[np.ndarray, "patients patients"]:
    """Mean of the kernel over the pairs of every two patients' images; the sides' patients one after the other."""
    starts = np.cumsum([0, *(len(side.names) for side in sides)])
    owner = np.concatenate([side.owner + start for side, start in zip(sides, starts, strict=False)])
    images = np.bincount(owner)
    return group_sums(np.concatenate([side.features for side in sides]), owner, kernel) / np.outer(images, images)


def _against(
    mean: Float[np.ndarray, "patients patients"], real: Int[np.ndarray, " real"], other: Int[np.ndarray, " other"]
) -> TwoGroups:
    rows = np.concatenate([real, other])
    return TwoGroups(mean[np.ix_(rows, rows)], np.arange(len(rows)) < len(real))


def _figures(
    real: Float[np.ndarray, "real features"],
    real_reach: Float[Tensor, " real"] | None,
    other: Float[np.ndarray, "other features"],
    k: int,
) -> dict[str, Figure]:
    near = around(real, reach(real, k) if real_reach is None else real_reach, other, reach(other, k), k)
    return {"FD": frechet(real, other), **{name: Figure(getattr(near, name)) for name in FIGURES[1:]}}


def _beside(
    name: str,
    values: list[dict[str, Figure]],
    nulls: list[dict[str, Figure]],
    divided: list[dict[str, Figure]],
    why: str | None,
) -> Beside:
    why = why or next((one[name].why for one in values + nulls + divided if one[name].why), None)
    if why:
        return Beside(None, None, None, why)
    drawn, real, parts = (np.array([one[name].value for one in ones]) for ones in (values, nulls, divided))
    reals = np.concatenate([real, parts])
    return Beside(float(drawn.mean()), float(real.mean()), (float(reals.min()), float(reals.max())))
