"""Expected calibration error (ECE)."""

import numpy as np
from jaxtyping import Float, Int

from trcgl.metrics.intervals import Replicates, error_interval
from trcgl.metrics.metric import Metric
from trcgl.metrics.resampling import FindingRows, Resampled
from trcgl.metrics.rows import Rows, Value, descending

BINS = 15
"""Number of bins, of equal mass."""


def _value(positive: Rows, score: Rows, weight: Rows, bins: int = BINS) -> Value:
    """Σ_b (W_b / W) |mean truth − mean score| over bins of equal mass (Nguyen & O'Connor 2015)."""
    place = mass_bins(score, weight, bins)
    gap = np.bincount(place, weight * (positive - score), minlength=bins)
    return Value(float(np.abs(gap).sum() / weight.sum()))


def mass_bins(score: Rows, weight: Rows, bins: int = BINS) -> Int[np.ndarray, " rows"]:
    """The bin of every row; bin 0 has the lowest scores. Rows with equal scores are in the bin of the middle row."""
    order, ends = descending(-score)
    upper = np.cumsum(weight[order])[ends]
    middle = upper - np.diff(upper, prepend=0.0) / 2
    of_score = np.minimum((bins * middle / upper[-1]).astype(np.int64), bins - 1)
    place = np.empty(len(score), np.int64)
    place[order] = np.repeat(of_score, np.diff(ends, prepend=-1))
    return place


def _gaps(rows: FindingRows) -> Float[np.ndarray, "sums rows"]:
    """Weights, and in each bin of the original data the gaps between truth and score."""
    every = np.zeros((1 + BINS, len(rows.score)))
    every[0] = 1
    if rows.weight.sum() > 0:
        bins = mass_bins(rows.score, rows.weight)
        every[1 + bins, np.arange(len(bins))] = rows.positive - rows.score
    return every


def _replicates(resampled: Resampled) -> Replicates:
    total, *gaps = resampled.sums(_gaps)
    return np.abs(gaps).sum(axis=0) / total


CALIBRATION_ERROR = Metric(
    "ECE",
    "calibration error",
    "mean distance between probability and observed share; 0 is perfect",
    _value,
    _replicates,
    error_interval,
    needs="a label",
    higher_is_better=False,
    order=60,
)
