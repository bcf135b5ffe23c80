"""F1 at the threshold."""

import numpy as np
from jaxtyping import Float

from trcgl.metrics.metric import Metric
from trcgl.metrics.resampling import FindingRows, Resampled
from trcgl.metrics.rows import Value, known_rows, undefined


def f1(
    truth: Float[np.ndarray, " rows"],
    score: Float[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"] | None = None,
    threshold: float = 0.5,
) -> Value:
    """F1 = 2 TP / (2 TP + FP + FN), where a score of at least `threshold` calls the finding present."""
    positive, score, weight = known_rows(truth, score, weight)
    if why := undefined(positive, weight):
        return Value(None, why)
    called = score >= threshold
    hit = float(weight @ (positive * called))
    return Value(2 * hit / float(weight @ positive + weight @ called))


def _counts(rows: FindingRows) -> Float[np.ndarray, "sums rows"]:
    called = rows.score >= rows.threshold
    return np.stack([rows.positive * called, rows.positive + called, rows.positive])


def _replicates(resampled: Resampled) -> Float[np.ndarray, " replicates"]:
    hits, present_and_called, positives = resampled.sums(_counts)
    return np.where(positives > 0, 2 * hits / present_and_called, np.nan)


F1 = Metric("F1", "F1", "at thresholds fitted on val", f1, _replicates, needs_threshold=True, order=40)
