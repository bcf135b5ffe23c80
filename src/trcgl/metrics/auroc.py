"""Area under the ROC curve (AUROC)."""

import numpy as np

from trcgl.metrics.intervals import Replicates
from trcgl.metrics.metric import Metric
from trcgl.metrics.resampling import Resampled
from trcgl.metrics.rows import Rows, Value, descending


def _value(positive: Rows, score: Rows, weight: Rows) -> Value:
    """Area under the ROC curve: P(a positive scores higher than a negative), where ties count one half."""
    order, ends = descending(score)
    positives = np.diff(np.cumsum(weight[order] * positive[order])[ends], prepend=0.0)
    above = np.cumsum(weight[order] * (1 - positive[order]))[ends]
    negatives = np.diff(above, prepend=0.0)
    return Value(float(positives @ (above[-1] - above + negatives / 2) / (positives.sum() * above[-1])))


def _replicates(resampled: Resampled) -> Replicates:
    ranking = resampled.ranking
    lower = ranking.negatives - ranking.false + ranking.tied / 2
    pairs = ranking.hits[:, -1] * ranking.negatives[:, 0]
    return np.einsum("bk,bk->b", ranking.positives, lower) / pairs


AUROC = Metric(
    "AUC",
    "AUROC",
    "area under the ROC curve; 0.5 is chance",
    _value,
    _replicates,
    ranking=True,
    needs="a positive and a negative",
    order=20,
)
