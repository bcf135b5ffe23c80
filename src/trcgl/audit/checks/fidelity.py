"""Fidelity: the distance of synthetic images from held-out real images, and of real training images as the null.

`compare_with_real` is for the images of one finding: an unbiased kernel distance with interval and p-value over
patients. `overall` is for all images: Fréchet distance, precision, recall, density and coverage.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from trcgl.audit import kernels
from trcgl.audit.check import Check, Evidence
from trcgl.audit.kernels import NEIGHBORS, Kernel
from trcgl.audit.patients import PatientImages, Sides, check_separation
from trcgl.audit.permutation import LEVEL, TwoGroups
from trcgl.core.errors import RecipeError
from trcgl.core.randomness import generator
from trcgl.metrics.rows import Value

KERNELS = ("kid", "rbf")
FEWEST = 10  # with fewer patients on a side neither the permutation test nor the jackknife holds its level
FIGURES = ("FD", "precision", "recall", "density", "coverage")
_ROUNDING = 1e-12  # the same division summed in another order
_DIVISIONS = 20  # random divisions per sample of training patients


@dataclass(frozen=True)
class Fidelity:
    """Kernel distance between synthetic and held-out real images."""

    kernel: str  # `kid` or `rbf`
    n_synthetic: int  # synthetic images compared
    n_real: int  # held-out real images compared
    n_null: int  # training images in each comparison of the null: as many as synthetic ones, or all
    patients: dict[str, int]  # number of patients per side; source patients of the synthetic images
    value: float | None = None  # squared distance, synthetic against held-out real; unbiased, so it may be negative
    ci: tuple[float, float] | None = None  # 95 % interval of `value` by a jackknife over patients
    p: float | None = None  # share of random exchanges of patients between the two sides that are as far apart
    null: float | None = None  # the same distance of real training images from held-out real images
    # 95 % range over random divisions of these real patients into groups of these sizes
    null_ci: tuple[float, float] | None = None
    bandwidth: float | None = None  # bandwidth of `rbf`: the median distance of two real images
    why: str | None = None  # reason why there is no value
    null_why: str | None = None  # reason why there is no null


@dataclass(frozen=True)
class Beside:
    """A figure of synthetic images beside that of real training images, both against held-out real images."""

    value: float | None  # figure of synthetic images; the mean if several samples of them were compared
    null: float | None  # figure of as many real training images; the mean over samples
    # lowest and highest over these samples and as many random divisions of the real patients
    null_range: tuple[float, float] | None
    why: str | None = None  # reason why there is none


@dataclass(frozen=True)
class Overall:
    """Fréchet distance (`FD`), precision, recall, density and coverage of all synthetic images."""

    figures: dict[str, Beside]  # figures by name
    n: int  # synthetic, or training, images in each comparison; equal because the figures depend on it
    n_real: int  # held-out real images
    features: int  # dimension of the feature space
    neighbors: int  # k of the neighborhoods
    patients: dict[str, int]  # number of patients per side; source patients of the synthetic images


def compare_with_real(
    sides: Sides, *, kernel: str, seed: int, permutations: int = 999, repetitions: int = 50, most: int = 1000
) -> Fidelity:
    """Distance of synthetic from held-out real images, tested by permuting patients, and its null.

    Images of one patient stay together. The null is the mean over repeated samples of training patients. Of sides with
    more than `most` images, random patients take part.
    """
    if kernel not in KERNELS:
        raise RecipeError(f"no kernel {kernel!r}; there are {' and '.join(KERNELS)}.")
    synthetic, real, train = sides = _limited(sides, most, seed)
    why = _too_few(synthetic, real)
    found: dict[str, Any] = {
        "kernel": kernel,
        "n_synthetic": len(synthetic.features),
        "n_real": len(real.features),
        "n_null": min(len(synthetic.features), len(train.features)),
        "patients": _patients(sides),
        "why": why,
        "null_why": why or _too_few(train, real),
    }
    if why:
        return Fidelity(**found)
    kernels.check(np.concatenate([side.features for side in sides]))
    bandwidth = kernels.median_bandwidth(np.concatenate([real.features, train.features])) if kernel == "rbf" else None
    mean = _mean_kernel(
        (real, synthetic, train), kernels.gaussian(bandwidth) if bandwidth is not None else kernels.polynomial
    )
    reals, first_of_train = np.arange(len(real.names)), len(real.names) + len(synthetic.names)
    groups = _against(mean, reals, np.arange(len(real.names), first_of_train))
    value = groups.value()
    permuted = groups.permuted(permutations, generator(seed, "fidelity", "permutation"))
    p = (1 + int((permuted >= value - _ROUNDING).sum())) / (1 + permutations)
    found |= {"value": value, "ci": groups.interval(), "p": p, "bandwidth": bandwidth}
    nulls, divided = [], []
    for repetition in range(0 if found["null_why"] else repetitions):
        rng = generator(seed, "fidelity", "null", repetition)
        chosen = train.choose(found["n_null"], rng)
        if len(chosen) < FEWEST:
            few = f"{found['n_null']} training images are of only {len(chosen)} patients, fewer than {FEWEST}"
            return Fidelity(**found | {"null_why": few})
        groups = _against(mean, reals, first_of_train + chosen)
        nulls.append(groups.value())
        divided.append(groups.permuted(_DIVISIONS, rng))
    if nulls:
        low, high = np.quantile(np.concatenate(divided), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found |= {"null": float(np.mean(nulls)), "null_ci": (float(low), float(high))}
    return Fidelity(**found)


def overall(sides: Sides, *, seed: int, k: int = NEIGHBORS, repetitions: int = 5, most: int = 5000) -> Overall:
    """Fréchet distance, precision, recall, density and coverage of all synthetic images, and their nulls at equal n.

    Neighborhoods have k images. The null is the mean over repeated samples of training patients; so is the value if
    there are more synthetic than training images. Of sides with more than `most` images, random patients take part.
    """
    synthetic, real, train = sides = _limited(sides, most, seed)
    n = min(len(synthetic.features), len(train.features))
    why = _too_few(synthetic, real) or _too_few(train, real)
    if not why and (fewest := min(n, len(real.features))) < 2 * k:
        why = f"{fewest} images: neighborhoods of {k} take at least {2 * k}"
    values, nulls, divided = [], [], []
    real_reach = None if why else kernels.reach(real.features, k)
    for repetition in range(0 if why else repetitions):
        rng = generator(seed, "overall", repetition)
        if not repetition or n < len(synthetic.features):
            values.append(_figures(real, synthetic.sample(n, rng)[0], k, real_reach))
        chosen, _ = train.sample(n, rng)
        nulls.append(_figures(real, chosen, k, real_reach))
        part, rest = real.together(chosen).sample(n, rng)
        divided.append(_figures(rest, part, k))
    figures = {name: _beside(name, values, nulls, divided, why) for name in FIGURES}
    return Overall(figures, n, len(real.features), synthetic.features.shape[1], k, _patients(sides))


def _limited(sides: Sides, most: int, seed: int) -> Sides:
    check_separation(sides)
    return Sides(*(side.at_most(most, generator(seed, "side", place)) for place, side in enumerate(sides)))


def _too_few(side: PatientImages, other: PatientImages) -> str | None:
    fewest = min(len(side.names), len(other.names))
    return f"images of {fewest} patients on a side; it takes {FEWEST}" if fewest < FEWEST else None


def _patients(sides: Sides) -> dict[str, int]:
    return {name: len(side.names) for name, side in sides._asdict().items()}


def _mean_kernel(sides: Sequence[PatientImages], kernel: Kernel) -> Float[np.ndarray, "patients patients"]:
    """Mean kernel over the image pairs of every two patients; the patients of the sides are concatenated."""
    starts = np.cumsum([0, *(len(side.names) for side in sides)])
    owner = np.concatenate([side.owner + start for side, start in zip(sides, starts, strict=False)])
    images = np.bincount(owner)
    return kernels.group_sums(np.concatenate([side.features for side in sides]), owner, kernel) / np.outer(
        images, images
    )


def _against(
    mean: Float[np.ndarray, "patients patients"], real: Int[np.ndarray, " real"], other: Int[np.ndarray, " other"]
) -> TwoGroups:
    rows = np.concatenate([real, other])
    return TwoGroups(mean[np.ix_(rows, rows)], np.arange(len(rows)) < len(real))


def _figures(
    real: PatientImages, other: PatientImages, k: int, real_reach: Float[Tensor, " real"] | None = None
) -> dict[str, Value]:
    near = kernels.neighborhood(real.features, other.features, k, real_reach)
    return {"FD": kernels.frechet(real.features, other.features)} | {
        name: Value(value) for name, value in vars(near).items()
    }


Repetitions = list[dict[str, Value]]


def _beside(name: str, values: Repetitions, nulls: Repetitions, divided: Repetitions, why: str | None) -> Beside:
    if why := why or next((figures[name].why for figures in values + nulls + divided if figures[name].why), None):
        return Beside(None, None, None, why)
    synthetic, real, parts = (np.array([figures[name].value for figures in some]) for some in (values, nulls, divided))
    reals = np.concatenate([real, parts])
    return Beside(float(synthetic.mean()), float(real.mean()), (float(reals.min()), float(reals.max())))


def of_finding(evidence: Evidence, finding: str) -> dict[str, Any]:
    """Kernel distances in every feature space."""
    result: dict[str, Any] = {}
    for name, features in evidence.features.items():
        sides = evidence.sides(features, *evidence.rows_of(finding))
        compared = {kernel: compare_with_real(sides, kernel=kernel, seed=evidence.seed) for kernel in KERNELS}
        result[name] = {kernel: dataclasses.asdict(fidelity) for kernel, fidelity in compared.items()}
    return result


def of_all(evidence: Evidence) -> dict[str, Any]:
    """Figures over all findings, with equally many images of each, in every feature space."""
    images = evidence.images
    chosen: dict[str, list[np.ndarray]] = {"drawn": [], "held_out": [], "train": []}  # the seeds of 0.1.0
    for finding in images.findings:
        rows = evidence.rows_of(finding)
        count = min(map(len, rows))
        for (name, parts), of_finding in zip(chosen.items(), rows, strict=True):
            parts.append(generator(evidence.seed, "together", finding, name).permutation(of_finding)[:count])
    synthetic, held_out, train = (np.concatenate(parts) for parts in chosen.values())
    held_out, train = np.unique(held_out), np.unique(train)  # an image with two of the findings counts once
    return {
        name: dataclasses.asdict(overall(evidence.sides(features, synthetic, held_out, train), seed=evidence.seed))
        for name, features in evidence.features.items()
    }


CHECK = Check(
    key="fidelity",
    order=30,
    title="Fidelity",
    null="real training images against held-out ones, as many images or all",
    of_finding=of_finding,
    of_all=of_all,
)
