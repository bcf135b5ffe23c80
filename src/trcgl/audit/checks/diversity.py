"""Are drawn images of a finding as unlike each other as real ones? MS-SSIM within the class, and the Vendi score.

MS-SSIM (Wang et al. 2003) of random pairs of images of different patients: lower is more diverse. The Vendi score
(Friedman & Dieng 2023) of n images is exp(−Σ λ log λ) for the eigenvalues λ of K / n, with K the cosines of their
features: the effective number of different images, 1 to n. It grows with n, so it is the mean over subsets of the same
size m everywhere, drawn and real: m patients, one image of each.

Intervals come from random halves of the patients, without replacement: repeated rows would look like a lack of
diversity. The standard deviation over halves is the standard error of the whole (delete-half jackknife, Shao & Wu
1989). Real training against real held-out images is the null of every difference.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.stats import t
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from trcgl.core.errors import DataError
from trcgl.core.randomness import generator
from trcgl.metrics.intervals import LEVEL

PAIRS = 1000
REPLICATES = 200
LEAST = 10
"""Fewer patients in a subset have no diversity that is worth a number."""
MOST = 200
"""More images in a subset do not change what is found."""
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five levels of MS-SSIM; small images have fewer, whose weights are scaled to sum to 1."""

_KERNEL = 11
_BATCH = 64


@dataclass(frozen=True)
class Sample:
    """Images of one finding.

    Args:
        images: gray, all of one size.
        features: of each image.
        patients: of each image; of a drawn image the patient whose label set it was made of.

    Raises:
        DataError: the lengths differ, or a feature is not finite.
    """

    images: UInt8[np.ndarray, "images side side"]
    features: Float[np.ndarray, "images features"]
    patients: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.features) == len(self.patients):
            lengths = f"{len(self.images)} images, {len(self.features)} rows of features, {len(self.patients)} patients"
            raise DataError(f"diversity: {lengths}; give as many of each.")
        if not (finite := np.isfinite(self.features).all(1)).all():
            raise DataError(f"diversity: image {np.flatnonzero(~finite)[0]} has a feature that is not finite.")


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, or the reason why there is none."""

    value: float | None
    ci: tuple[float, float] | None
    why: str | None = None


@dataclass(frozen=True)
class Comparison:
    """One measure of drawn and of real images.

    Args:
        drawn: its value.
        held_out: of real held-out images.
        train: of real training images.
        difference: drawn less held-out.
        null: train less held-out.
        n: images or pairs behind each of the three values.
    """

    drawn: Estimate
    held_out: Estimate
    train: Estimate
    difference: Estimate
    null: Estimate
    n: dict[str, int]


@dataclass(frozen=True)
class Diversity:
    """How diverse drawn images are beside real ones.

    Args:
        ms_ssim: mean over pairs, at most 1; lower is more diverse.
        vendi: effective number among `subset` images; higher is more diverse.
        subset: images of different patients in a subset, m.
        betas: weights of the levels of MS-SSIM at this image size.
        images: of each sample.
        patients: of each sample.
    """

    ms_ssim: Comparison
    vendi: Comparison
    subset: int
    betas: tuple[float, ...]
    images: dict[str, int]
    patients: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return dataclasses.asdict(self)


def diversity(
    drawn: Sample,
    held_out: Sample,
    train: Sample,
    *,
    seed: int = 0,
    pairs: int = PAIRS,
    replicates: int = REPLICATES,
) -> Diversity:
    """Compare the diversity of drawn images with that of real images of the same finding.

    Args:
        drawn: images drawn for the finding.
        held_out: real images of other patients.
        train: real images that the generator learned from, for the null.
        seed: of pairs and halves.
        pairs: of images that MS-SSIM is the mean over.
        replicates: random halves.

    Raises:
        DataError: images of the samples differ in size.
    """
    samples = {"drawn": drawn, "held_out": held_out, "train": train}
    if len({one.images.shape[1:] for one in samples.values()}) > 1:
        sizes = ", ".join(f"{name} {one.images.shape[1:]}" for name, one in samples.items())
        raise DataError(f"diversity: images differ in size: {sizes}. Resize them to one size first.")
    owner = {name: np.unique(np.asarray(one.patients), return_inverse=True)[1] for name, one in samples.items()}
    patients = {name: int(one.max(initial=-1)) + 1 for name, one in owner.items()}
    subset = min(MOST, min(patients.values()) // 2)
    betas = levels(min(drawn.images.shape[1:]))

    similar, distinct, counts = {}, {}, {}
    for name, one in samples.items():
        similar[name], counts[name] = _pair_similarity(one, owner[name], betas, pairs, replicates, seed, name)
        distinct[name] = _distinct(one, owner[name], subset, replicates, seed, name)
    return Diversity(
        _compare(similar, patients, counts),
        _compare(distinct, patients, dict.fromkeys(samples, subset)),
        subset,
        betas,
        {name: len(one.images) for name, one in samples.items()},
        patients,
    )


def levels(side: int) -> tuple[float, ...]:
    """The weights of as many levels as an image of this side has room for, scaled to sum to 1."""
    # The image is halved before every further level; torchmetrics asks for more room where there are four.
    room = [one for one in range(1, len(BETAS) + 1) if side // max(2 ** (one - 1), (one - 1) ** 2) >= _KERNEL]
    count = max(room, default=0)
    return tuple(one / sum(BETAS[:count]) for one in BETAS[:count])


def vendi(features: Float[np.ndarray, "images features"]) -> float:
    """Effective number of different images: exponential of the entropy of the eigenvalues of the cosines, over n."""
    rows = features.astype(np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    # The smaller of the two products has the same eigenvalues other than 0.
    product = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(product / len(rows))
    values = values[values > 1e-12]
    return float(np.exp(-values @ np.log(values)))


def ms_ssim(
    one: UInt8[np.ndarray, "pairs side side"], other: UInt8[np.ndarray, "pairs side side"], betas: tuple[float, ...]
) -> Float[np.ndarray, " pairs"]:
    """Multi-scale structural similarity of pairs of images."""
    found = []
    for start in range(0, len(one), _BATCH):
        first, second = (
            torch.from_numpy(of[start : start + _BATCH].astype(np.float32))[:, None] / 255 for of in (one, other)
        )
        found.append(
            multiscale_structural_similarity_index_measure(first, second, data_range=1.0, betas=betas, reduction="none")
        )
    return torch.cat(found).reshape(-1).numpy().astype(np.float64) if found else np.empty(0)


Measured = tuple[float, float] | str
"""Value and standard error, or why there is none."""


def _pair_similarity(
    sample: Sample, owner: np.ndarray, betas: tuple[float, ...], pairs: int, replicates: int, seed: int, name: str
) -> tuple[Measured, int]:
    if not betas:
        return f"images of {sample.images.shape[1]} px are smaller than the kernel of {_KERNEL} px", 0
    first, second = _pairs(owner, pairs, generator(seed, "pairs", name))
    if not len(first):
        return "no two images of different patients", 0
    value = ms_ssim(sample.images[first], sample.images[second], betas)
    means = []
    for replicate in range(replicates):
        inside = _half(int(owner.max()) + 1, generator(seed, "halves", name, replicate))
        kept = inside[owner[first]] & inside[owner[second]]
        if kept.any():
            means.append(value[kept].mean())
    if len(means) < replicates / 2 or owner.max() + 1 < 2 * LEAST:
        return f"only {owner.max() + 1} patients: {2 * LEAST} are needed", len(first)
    # A half keeps a quarter of the pairs, which adds twice the variance that choosing pairs has in the whole.
    chance = value.var(ddof=1) / len(value)
    error = np.sqrt(max(np.var(means, ddof=1) - 2 * chance, chance))
    return (float(value.mean()), float(error)), len(first)


def _pairs(owner: Int[np.ndarray, " images"], count: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Different pairs of images of different patients: all of them, or a random choice."""
    first, second = np.triu_indices(len(owner), 1)
    apart = np.flatnonzero(owner[first] != owner[second])
    chosen = draw.permutation(apart)[:count]
    return first[chosen], second[chosen]


def _half(patients: int, draw: np.random.Generator) -> Bool[np.ndarray, " patients"]:
    inside = np.zeros(patients, bool)
    inside[draw.choice(patients, patients // 2, replace=False)] = True
    return inside


def _distinct(sample: Sample, owner: np.ndarray, subset: int, replicates: int, seed: int, name: str) -> Measured:
    """Vendi score of `subset` patients, one image of each: mean over subsets, and its standard error."""
    patients = int(owner.max(initial=-1)) + 1
    if subset < LEAST:
        return f"subsets of {subset} patients: {LEAST} are needed"
    values = np.empty(replicates)
    for replicate in range(replicates):
        draw = generator(seed, "subsets", name, replicate)
        rows = draw.permutation(len(owner))
        rows = rows[np.unique(owner[rows], return_index=True)[1]]  # a random image of each patient
        values[replicate] = vendi(sample.features[draw.choice(rows, subset, replace=False)])
    # Delete-d jackknife with d = patients - subset; a half has the factor 1.
    return float(values.mean()), float(values.std(ddof=1) * np.sqrt(subset / (patients - subset)))


def _compare(measured: dict[str, Measured], patients: dict[str, int], n: dict[str, int]) -> Comparison:
    def alone(name: str) -> Estimate:
        one = measured[name]
        return Estimate(None, None, one) if isinstance(one, str) else _estimate(*one, patients[name])

    def against(name: str) -> Estimate:
        one, other = measured[name], measured["held_out"]
        if isinstance(one, str):
            return Estimate(None, None, f"{name}: {one}")
        if isinstance(other, str):
            return Estimate(None, None, f"held_out: {other}")
        fewest = min(patients[name], patients["held_out"])
        return _estimate(one[0] - other[0], float(np.hypot(one[1], other[1])), fewest)

    return Comparison(alone("drawn"), alone("held_out"), alone("train"), against("drawn"), against("train"), n)


def _estimate(value: float, error: float, patients: int) -> Estimate:
    reach = float(t.isf((1 - LEVEL) / 2, patients - 1)) * error
    return Estimate(value, (value - reach, value + reach))
