"""Metrics of one finding: average precision, AUROC, F1 and calibration error, with unknown labels left out.

`truth` is 1 (present), 0 (absent) or NaN (unknown); `weight` is how much an image counts, 1 where it is None.
A metric that cannot be computed has no value and says why; it is never 0 or 0.5.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from trcgl.core.errors import DataError

BINS = 15
"""Equal-mass bins of the expected calibration error."""

NO_LABEL = "no known label"
NO_POSITIVE = "no positive in this split"
NO_NEGATIVE = "no negative in this split"


class Metric(NamedTuple):
    """A value, or the reason why there is none."""

    value: float | None
    why: str | None = None


def average_precision(
    truth: Float[np.ndarray, " rows"],
    score: Float[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"] | None = None,
) -> Metric:
    """Average precision Σ_k (R_k − R_{k−1}) P_k over the distinct scores, as scikit-learn defines it.

    Raises:
        DataError: a score is not finite, or a weight is negative.
    """
    positive, score, weight = known_rows(truth, score, weight)
    if why := _undefined(positive, weight, negatives=False):
        return Metric(None, why)
    order, ends = descending(score)
    positives = np.cumsum(weight[order] * positive[order])[ends]
    everyone = np.cumsum(weight[order])[ends]
    # Scores whose rows all weigh nothing add no recall; before the first weighted row there is nothing to divide by.
    precision = np.divide(positives, everyone, out=np.zeros_like(positives), where=everyone > 0)
    return Metric(float(np.diff(positives, prepend=0.0) @ precision / positives[-1]))


def auroc(
    truth: Float[np.ndarray, " rows"],
    score: Float[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"] | None = None,
) -> Metric:
    """Area under the ROC curve: P(a positive scores higher than a negative), ties counting one half.

    Raises:
        DataError: a score is not finite, or a weight is negative.
    """
    positive, score, weight = known_rows(truth, score, weight)
    if why := _undefined(positive, weight, negatives=True):
        return Metric(None, why)
    order, ends = descending(score)
    positives = np.diff(np.cumsum(weight[order] * positive[order])[ends], prepend=0.0)
    above = np.cumsum(weight[order] * (1 - positive[order]))[ends]
    negatives = np.diff(above, prepend=0.0)
    return Metric(float(positives @ (above[-1] - above + negatives / 2) / (positives.sum() * above[-1])))


def f1_at(
    threshold: float,
    truth: Float[np.ndarray, " rows"],
    score: Float[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"] | None = None,
) -> Metric:
    """F1 = 2 TP / (2 TP + FP + FN) when a score of at least `threshold` says present.

    Raises:
        DataError: a score is not finite, or a weight is negative.
    """
    positive, score, weight = known_rows(truth, score, weight)
    if why := _undefined(positive, weight, negatives=False):
        return Metric(None, why)
    called = score >= threshold
    hit = float(weight @ (positive * called))
    return Metric(2 * hit / float(weight @ positive + weight @ called))


def expected_calibration_error(
    truth: Float[np.ndarray, " rows"],
    score: Float[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"] | None = None,
    bins: int = BINS,
) -> Metric:
    """Σ_b (W_b / W) |mean truth − mean score| over bins of equal mass (Nguyen & O'Connor 2015).

    Raises:
        DataError: a score is not finite, or a weight is negative.
    """
    positive, score, weight = known_rows(truth, score, weight)
    if not weight.sum() > 0:
        return Metric(None, NO_LABEL)
    place = mass_bins(score, weight, bins)
    gap = np.bincount(place, weight * (positive - score), minlength=bins)
    return Metric(float(np.abs(gap).sum() / weight.sum()))


def mass_bins(
    score: Float[np.ndarray, " rows"], weight: Float[np.ndarray, " rows"], bins: int = BINS
) -> Int[np.ndarray, " rows"]:
    """The bin of every row, 0 holding the lowest scores; rows of one score share the bin of their middle."""
    order, ends = descending(-score)
    upper = np.cumsum(weight[order])[ends]
    middle = upper - np.diff(upper, prepend=0.0) / 2
    of_score = np.minimum((bins * middle / upper[-1]).astype(np.int64), bins - 1)
    place = np.empty(len(score), np.int64)
    place[order] = np.repeat(of_score, np.diff(ends, prepend=-1))
    return place


def descending(score: Float[np.ndarray, " rows"]) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " distinct"]]:
    """Order of falling score, and in that order the last place of each distinct score."""
    order = np.argsort(-score, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)


def known_rows(
    truth: Float[np.ndarray, " rows"],
    score: Float[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"] | None = None,
) -> tuple[Float[np.ndarray, " known"], Float[np.ndarray, " known"], Float[np.ndarray, " known"]]:
    """Truth, score and weight of the rows whose label is known, in float64.

    Raises:
        DataError: a score is not finite, or a weight is negative.
    """
    known = ~np.isnan(truth)
    weight = np.ones(len(truth)) if weight is None else weight
    truth, score, weight = (np.asarray(one[known], np.float64) for one in (truth, score, weight))
    if not np.isfinite(score).all():
        raise DataError(f"labeled row {np.flatnonzero(~np.isfinite(score))[0]}: the score is not a finite number.")
    if not (weight >= 0).all():
        raise DataError(f"labeled row {np.flatnonzero(~(weight >= 0))[0]}: the weight is negative or not a number.")
    return truth, score, weight


def _undefined(
    positive: Float[np.ndarray, " rows"], weight: Float[np.ndarray, " rows"], *, negatives: bool
) -> str | None:
    if not weight.sum() > 0:
        return NO_LABEL
    if not weight @ positive > 0:
        return NO_POSITIVE
    if negatives and not weight @ (1 - positive) > 0:
        return NO_NEGATIVE
    return None
