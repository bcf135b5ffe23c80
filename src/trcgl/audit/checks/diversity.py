"""Diversity: do synthetic images of a finding vary as much as real images? MS-SSIM within the class, and Vendi score.

MS-SSIM (Wang et al. 2003) of random pairs of images of different patients: lower is more diverse. The Vendi score
(Friedman & Dieng 2023) of n images is exp(−Σ λ log λ) over the eigenvalues λ of K / n, with K the cosines of their
features: the effective number of different images, 1 to n. It grows with n, so it is the mean over subsets of the same
size m for every sample: m patients, one image of each.

Intervals come from random halves of the patients, without replacement: repeated rows would look like a lack of
diversity. The standard deviation over halves is the standard error of the whole (delete-half jackknife, Shao & Wu
1989). Real training against real held-out images is the null of every difference.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.stats import t

from trcgl.audit.check import Check, Evidence
from trcgl.audit.ms_ssim import KERNEL, levels, ms_ssim
from trcgl.audit.sample_plan import WITH
from trcgl.audit.scored_images import ScoredSheet
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator
from trcgl.metrics.intervals import LEVEL

LEAST = 10  # fewest patients in a subset
MOST = 200  # most images in a subset; more do not change the result
SAMPLES = ("synthetic", "held_out", "train")


@dataclass(frozen=True)
class Sample:
    """Images of one finding."""

    images: UInt8[np.ndarray, "images side side"]  # gray images of one size
    features: Float[np.ndarray, "images features"]  # features of each image
    patients: Sequence[str]  # patient of each image; source patient of a synthetic image

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.features) == len(self.patients):
            lengths = f"{len(self.images)} images, {len(self.features)} rows of features, {len(self.patients)} patients"
            raise DataError(f"diversity: {lengths}; give equally many.")
        if not (finite := np.isfinite(self.features).all(1)).all():
            raise DataError(f"diversity: image {np.flatnonzero(~finite)[0]} has a feature that is not finite.")

    @cached_property
    def owner(self) -> Int[np.ndarray, " images"]:
        """Number of the patient of each image."""
        return np.unique(np.asarray(self.patients), return_inverse=True)[1]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, or the reason why there is none."""

    value: float | None
    ci: tuple[float, float] | None
    why: str | None = None


@dataclass(frozen=True)
class Comparison:
    """One measure of synthetic and real images."""

    synthetic: Estimate  # value of the synthetic images
    held_out: Estimate  # value of the real held-out images
    train: Estimate  # value of the real training images
    difference: Estimate  # synthetic minus held-out
    null: Estimate  # train minus held-out
    n: dict[str, int]  # images or pairs behind each of the three values


@dataclass(frozen=True)
class Diversity:
    """Diversity of synthetic images, compared with that of real images."""

    ms_ssim: Comparison  # mean over pairs, at most 1; lower is more diverse
    vendi: Comparison  # effective number among `subset` images; higher is more diverse
    subset: int  # size m of a subset of images of different patients
    betas: tuple[float, ...]  # weights of the levels of MS-SSIM at this image size
    images: dict[str, int]  # number of images of each sample
    patients: dict[str, int]  # number of patients of each sample


def diversity(
    synthetic: Sample, held_out: Sample, train: Sample, *, seed: int = 0, pairs: int = 1000, replicates: int = 200
) -> Diversity:
    """Compare the diversity of synthetic images with that of real images of the same finding; train is for the null.

    MS-SSIM is the mean over `pairs` pairs of images; replicates are random halves of the patients.
    """
    samples = dict(zip(SAMPLES, (synthetic, held_out, train), strict=True))
    if len({sample.images.shape[1:] for sample in samples.values()}) > 1:
        sizes = ", ".join(f"{name} {sample.images.shape[1:]}" for name, sample in samples.items())
        raise DataError(f"diversity: images differ in size: {sizes}. Resize them to one size first.")
    patients = {name: len(set(sample.patients)) for name, sample in samples.items()}
    subset = min(MOST, min(patients.values()) // 2)
    betas = levels(min(synthetic.images.shape[1:]))
    similar, distinct, counts = {}, {}, {}
    for name, sample in samples.items():
        purpose = "drawn" if name == "synthetic" else name  # the seeds of 0.1.0
        similar[name], counts[name] = _pair_similarity(sample, betas, pairs, replicates, seed, purpose)
        distinct[name] = _distinct(sample, subset, replicates, seed, purpose)
    return Diversity(
        _compare(similar, patients, counts),
        _compare(distinct, patients, dict.fromkeys(samples, subset)),
        subset,
        betas,
        {name: len(sample.images) for name, sample in samples.items()},
        patients,
    )


def vendi(features: Float[np.ndarray, "images features"]) -> float:
    """Effective number of different images: exponential of the entropy of the eigenvalues of the cosines, over n."""
    rows = features.astype(np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    # The smaller of the two products has the same eigenvalues other than 0.
    product = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(product / len(rows))
    values = values[values > 1e-12]
    return float(np.exp(-values @ np.log(values)))


Measured = tuple[float, float] | str  # value and standard error, or the reason why there is none


def _pair_similarity(
    sample: Sample, betas: tuple[float, ...], pairs: int, replicates: int, seed: int, name: str
) -> tuple[Measured, int]:
    """Mean MS-SSIM of random pairs of images of different patients, all of them if there are few; and their number."""
    if not betas:
        return f"images of {sample.images.shape[1]} px are smaller than the kernel of {KERNEL} px", 0
    first, second = np.triu_indices(len(sample.owner), 1)
    apart = np.flatnonzero(sample.owner[first] != sample.owner[second])
    chosen = generator(seed, "pairs", name).permutation(apart)[:pairs]
    if not len(chosen):
        return "no two images of different patients", 0
    first, second = first[chosen], second[chosen]
    value = ms_ssim(sample.images[first], sample.images[second], betas)
    patients = int(sample.owner.max()) + 1
    means = []
    for replicate in range(replicates):
        half = generator(seed, "halves", name, replicate).choice(patients, patients // 2, replace=False)
        kept = np.isin(sample.owner[first], half) & np.isin(sample.owner[second], half)
        if kept.any():
            means.append(value[kept].mean())
    if len(means) < replicates / 2 or patients < 2 * LEAST:
        return f"only {patients} patients: {2 * LEAST} are needed", len(chosen)
    # A half keeps a quarter of the pairs, which adds twice the variance that choosing pairs has in the whole.
    chance = value.var(ddof=1) / len(value)
    error = np.sqrt(max(np.var(means, ddof=1) - 2 * chance, chance))
    return (float(value.mean()), float(error)), len(chosen)


def _distinct(sample: Sample, subset: int, replicates: int, seed: int, name: str) -> Measured:
    """Vendi score of `subset` patients, one image of each: mean over subsets, and its standard error."""
    if subset < LEAST:
        return f"subsets of {subset} patients: {LEAST} are needed"
    values = np.empty(replicates)
    for replicate in range(replicates):
        rng = generator(seed, "subsets", name, replicate)
        rows = rng.permutation(len(sample.owner))
        rows = rows[np.unique(sample.owner[rows], return_index=True)[1]]  # a random image of each patient
        values[replicate] = vendi(sample.features[rng.choice(rows, subset, replace=False)])
    # Delete-d jackknife with d = patients - subset; a half has the factor 1.
    left_out = len(rows) - subset
    return float(values.mean()), float(values.std(ddof=1) * np.sqrt(subset / left_out))


def _compare(measured: dict[str, Measured], patients: dict[str, int], n: dict[str, int]) -> Comparison:
    def estimate(*names: str) -> Estimate:
        """Estimate of a measure in one sample, or of its difference between two samples (first minus second)."""
        for name in names:
            if isinstance(why := measured[name], str):
                return Estimate(None, None, f"{name}: {why}" if len(names) > 1 else why)
        values, errors = np.array([measured[name] for name in names]).T
        value = float(np.subtract.reduce(values))
        reach = float(t.isf((1 - LEVEL) / 2, min(patients[name] for name in names) - 1) * np.hypot.reduce(errors))
        return Estimate(value, (value - reach, value + reach))

    synthetic, held_out, train = map(estimate, SAMPLES)
    return Comparison(synthetic, held_out, train, estimate("synthetic", "held_out"), estimate("train", "held_out"), n)


def compare(
    evidence: Evidence,
    finding: str,
    sheet: ScoredSheet,
    rows: Int[np.ndarray, " rows"],
    features: Float[np.ndarray, "rows features"],
    **sampling: Any,
) -> dict[str, Any]:
    """Diversity of rows of a sheet beside that of real images of the finding; `features` are in the first space."""
    images, space = evidence.images, evidence.first_space
    samples = [Sample(sheet.images[rows], features, sheet.patients(rows))]
    for side, features_of in ((images.held_out, space.held_out), (images.unseen, space.train)):
        real = evidence.compared(side, finding)
        samples.append(Sample(images.pixels(side, real), features_of[real], side.patients(real)))
    return dataclasses.asdict(diversity(*samples, seed=evidence.seed, **sampling))


def of_finding(evidence: Evidence, finding: str) -> dict[str, Any]:
    """Diversity of all synthetic images of a finding."""
    sheet = evidence.images.sheets[WITH]
    rows = sheet.rows_of(finding)
    return compare(evidence, finding, sheet, rows, evidence.first_space.synthetic[rows])


CHECK = Check(
    key="diversity", order=60, title="Diversity", null="real held-out images of the finding", of_finding=of_finding
)
