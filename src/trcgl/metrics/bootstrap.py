"""Patient bootstrap of AP and AUROC: all replicates of a finding at once, without sorting again.

A replicate draws patients with replacement; an image then counts as often as its patient was drawn. The order of the
scores never changes, so each finding is sorted once and its rows are cut into segments between the positives. What a
replicate needs are the weights of these segments: one sparse product, segments × patients by patients × replicates.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from trcgl.core.randomness import generator
from trcgl.metrics.metrics import BINS, known_rows, mass_bins

CHUNK = 32
"""Replicates worked on together: their counts stay in the processor's cache."""


@dataclass(frozen=True)
class Replicates:
    """Metrics of every replicate and finding, NaN where a replicate leaves them undefined.

    Args:
        ap: average precision.
        auroc: area under the ROC curve.
        f1: F1 at the given thresholds; no column if none were given.
        ece: calibration error in the bins of the whole data; as `f1`.
    """

    ap: Float[np.ndarray, "replicates findings"]
    auroc: Float[np.ndarray, "replicates findings"]
    f1: Float[np.ndarray, "replicates judged"]
    ece: Float[np.ndarray, "replicates judged"]


def patient_bootstrap(
    truth: Float[np.ndarray, "rows findings"],
    score: Float[np.ndarray, "rows findings"],
    patient: Sequence[str] | np.ndarray,
    weight: Float[np.ndarray, " rows"] | Float[np.ndarray, "rows findings"] | None = None,
    *,
    thresholds: Sequence[float] | None = None,
    replicates: int = 2000,
    seed: int = 0,
    workers: int | None = None,
) -> Replicates:
    """Recompute the metrics of every finding on `replicates` draws of patients.

    Replicate b draws the same patients for every finding, and for every run judged on the same images.

    Args:
        truth: 1 present, 0 absent, NaN unknown.
        score: higher means more likely present.
        patient: whose image each row is.
        weight: how much each image counts, for all findings or for each; all the same where None.
        thresholds: one per finding; F1 and ECE are bootstrapped only where they are given.
        replicates: draws.
        seed: of the draws.
        workers: threads; as many as there are cores where None.

    Raises:
        DataError: a score is not finite or a weight is negative.
    """
    patients, owner = np.unique(np.asarray(patient), return_inverse=True)
    metrics: list[Callable[[np.ndarray], np.ndarray]] = []
    for one in range(truth.shape[1]):
        own = weight[:, one] if weight is not None and weight.ndim == 2 else weight
        rows = (*known_rows(truth[:, one], score[:, one], own), owner[~np.isnan(truth[:, one])], len(patients))
        metrics.append(_Ranking(*rows))
        if thresholds is not None:
            metrics.append(_Calls(*rows, thresholds[one]))

    def work(chunk: Sequence[int]) -> np.ndarray:
        counts = np.empty((len(patients), len(chunk)), np.float32)
        for column, replicate in enumerate(chunk):
            counts[:, column] = resample_patients(len(patients), seed, replicate)
        return np.stack([metric(counts) for metric in metrics], axis=2)  # (2, replicates, findings or twice as many)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        chunks = [range(first, min(first + CHUNK, replicates)) for first in range(0, replicates, CHUNK)]
        values = np.concatenate(list(pool.map(work, chunks)), axis=1)
    if thresholds is None:
        return Replicates(*values, *values[..., :0])
    return Replicates(*values[..., 0::2], *values[..., 1::2])


def resample_patients(patients: int, seed: int, replicate: int) -> Int[np.ndarray, " patients"]:
    """How often each patient is drawn in one replicate."""
    draws = generator(seed, "bootstrap", replicate).integers(0, patients, patients)
    return np.bincount(draws, minlength=patients)


class _Ranking:
    """AP and AUROC of one finding, whose rows are cut at the K distinct scores that a positive has.

    Segments: K of positives; K + 1 of negatives, the k-th reaching from below the k-th score's predecessor down to
    and with the k-th score; and, where any does, K of the negatives whose score a positive has, too.
    """

    def __init__(
        self,
        positive: Float[np.ndarray, " rows"],
        score: Float[np.ndarray, " rows"],
        weight: Float[np.ndarray, " rows"],
        owner: Int[np.ndarray, " rows"],
        patients: int,
    ) -> None:
        present = positive == 1
        cuts = np.unique(-score[present])
        place = np.searchsorted(cuts, -score, side="left")
        tied = ~present & np.isin(-score, cuts)
        self.cuts, self.ties = len(cuts), bool(tied.any())
        segment = np.concatenate([np.where(present, place, self.cuts + place), 2 * self.cuts + 1 + place[tied]])
        owner, weight = np.append(owner, owner[tied]), np.append(weight, weight[tied])
        rows = (3 if self.ties else 2) * self.cuts + 1
        # Counts of drawn images are exact in float32, which halves the traffic; other weights are not.
        kind = np.float32 if bool((weight == 1).all()) else np.float64
        self.segments = sparse.csr_matrix((weight.astype(kind), (segment, owner)), (rows, patients))

    def __call__(self, counts: Float[np.ndarray, "patients replicates"]) -> Float[np.ndarray, "2 replicates"]:
        if not self.cuts:
            return np.full((2, counts.shape[1]), np.nan)
        # Replicates become rows: sums along a contiguous axis are several times faster.
        total = (self.segments @ counts.astype(self.segments.dtype, copy=False)).T.astype(np.float64, order="C")
        positives = total[:, : self.cuts]
        hits = np.cumsum(positives, axis=1)
        false = np.cumsum(total[:, self.cuts : 2 * self.cuts + 1], axis=1)
        negatives, false = false[:, -1:], false[:, :-1]
        beaten = negatives - false
        if self.ties:
            beaten += total[:, 2 * self.cuts + 1 :] / 2
        precision = hits / np.maximum(hits + false, np.finfo(np.float64).tiny)  # 0 where nothing was called
        with np.errstate(invalid="ignore"):  # 0 / 0: this replicate leaves the metric undefined
            ap = np.einsum("bk,bk->b", positives, precision) / hits[:, -1]
            return np.stack([ap, np.einsum("bk,bk->b", positives, beaten) / (hits[:, -1] * negatives[:, 0])])


class _Calls:
    """F1 at a threshold and ECE of one finding: sums over patients, so one sparse product."""

    def __init__(
        self,
        positive: Float[np.ndarray, " rows"],
        score: Float[np.ndarray, " rows"],
        weight: Float[np.ndarray, " rows"],
        owner: Int[np.ndarray, " rows"],
        patients: int,
        threshold: float,
    ) -> None:
        called = score >= threshold
        gap = weight * (positive - score)
        bins = mass_bins(score, weight) if weight.sum() > 0 else np.zeros(len(score), np.int64)
        values = np.concatenate(
            [weight * positive * called, weight * (positive + called), weight * positive, weight, gap]
        )
        segment = np.concatenate([*(np.full(len(score), row) for row in range(4)), 4 + bins])
        self.segments = sparse.csr_matrix((values, (segment, np.tile(owner, 5))), (4 + BINS, patients))

    def __call__(self, counts: Float[np.ndarray, "patients replicates"]) -> Float[np.ndarray, "2 replicates"]:
        hits, both, positives, everyone, *gaps = self.segments @ counts.astype(np.float64, copy=False)
        with np.errstate(invalid="ignore"):  # 0 / 0: this replicate leaves the metric undefined
            f1 = np.where(positives > 0, 2 * hits / both, np.nan)
            return np.stack([f1, np.abs(gaps).sum(axis=0) / everyone])
