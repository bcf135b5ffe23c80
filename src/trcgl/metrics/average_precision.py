"""Average precision (AP)."""

import numpy as np

from trcgl.metrics.intervals import Replicates
from trcgl.metrics.metric import Metric
from trcgl.metrics.resampling import Resampled
from trcgl.metrics.rows import Rows, Value, descending


def _value(positive: Rows, score: Rows, weight: Rows) -> Value:
    """Average precision Σ_k (R_k − R_{k−1}) P_k over the distinct scores, as in scikit-learn.

    Without a negative it would be 1 for any scores, and is undefined.
    """
    order, ends = descending(score)
    positives = np.cumsum(weight[order] * positive[order])[ends]
    everyone = np.cumsum(weight[order])[ends]
    # Scores whose rows have no weight add no recall; before the first weighted row there is nothing to divide by.
    precision = np.divide(positives, everyone, out=np.zeros_like(positives), where=everyone > 0)
    return Value(float(np.diff(positives, prepend=0.0) @ precision / positives[-1]))


def _replicates(resampled: Resampled) -> Replicates:
    ranking = resampled.ranking
    called = np.maximum(ranking.hits + ranking.false, np.finfo(np.float64).tiny)  # precision 0 where nothing is called
    precision = np.einsum("bk,bk->b", ranking.positives, ranking.hits / called) / ranking.hits[:, -1]
    return np.where(ranking.negatives[:, 0] > 0, precision, np.nan)


AVERAGE_PRECISION = Metric(
    "AP",
    "average precision",
    "precision averaged over all recalls; random scores reach the share of positives",
    _value,
    _replicates,
    needs="a positive and a negative",
    ranking=True,
    order=10,
)
