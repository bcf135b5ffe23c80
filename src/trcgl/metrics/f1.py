"""F1 at the threshold."""

import numpy as np
from jaxtyping import Float

from trcgl.metrics.intervals import Replicates
from trcgl.metrics.metric import Metric
from trcgl.metrics.resampling import FindingRows, Resampled
from trcgl.metrics.rows import Rows, Value


def _value(positive: Rows, score: Rows, weight: Rows, threshold: float) -> Value:
    """F1 = 2 TP / (2 TP + FP + FN), where a score of at least `threshold` calls the finding present."""
    called = score >= threshold
    hit = float(weight @ (positive * called))
    return Value(2 * hit / float(weight @ positive + weight @ called))


def _counts(rows: FindingRows) -> Float[np.ndarray, "sums rows"]:
    called = rows.score >= rows.threshold
    return np.stack([rows.positive * called, rows.positive + called, rows.positive])


def _replicates(resampled: Resampled) -> Replicates:
    hits, present_and_called, positives = resampled.sums(_counts)
    return np.where(positives > 0, 2 * hits / present_and_called, np.nan)


F1 = Metric("F1", "F1", "at thresholds fitted on val", _value, _replicates, needs_threshold=True, order=40)
