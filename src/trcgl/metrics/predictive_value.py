"""Positive predictive value (PPV, precision) at the threshold."""

import numpy as np
from jaxtyping import Bool, Float

from trcgl.metrics.intervals import Interval, Replicates, interval
from trcgl.metrics.metric import Metric
from trcgl.metrics.resampling import FindingRows, Resampled
from trcgl.metrics.rows import Rows, Value

NONE_CALLED = "no image is called positive"


def _value(positive: Rows, score: Rows, weight: Rows, threshold: float) -> Value:
    """PPV = TP / (TP + FP), where a score of at least `threshold` calls the finding present.

    Undefined where no row is called, and where no row is positive: every call would then be false by construction.
    """
    called = score >= threshold
    if not weight @ called > 0:
        return Value(None, NONE_CALLED)
    return Value(float(weight @ (positive * called) / (weight @ called)))


def _counts(rows: FindingRows) -> Float[np.ndarray, "sums rows"]:
    called = rows.score >= rows.threshold
    return np.stack([rows.positive * called, called, rows.positive])


def _replicates(resampled: Resampled) -> Replicates:
    hits, called, positives = resampled.sums(_counts)
    return np.where(positives > 0, hits / called, np.nan)


def _called(truth: Rows, score: Rows, threshold: float) -> Bool[np.ndarray, " rows"]:
    return ~np.isnan(truth) & (score >= threshold)


def _interval(value: float, replicates: Replicates, freedom: float) -> Interval:
    if freedom <= 0:
        return Interval(None, "fewer than two patients called positive: no interval", 0)
    return interval(value, replicates, freedom)


POSITIVE_PREDICTIVE_VALUE = Metric(
    "PPV",
    "positive predictive value",
    "share of the called images that have the finding; it moves with prevalence",
    _value,
    _replicates,
    _interval,
    needs_threshold=True,
    decisive=_called,
    order=50,
)
