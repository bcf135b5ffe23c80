"""Sensitivity at 95 % specificity."""

import numpy as np

from trcgl.metrics.intervals import Replicates
from trcgl.metrics.metric import Metric
from trcgl.metrics.resampling import Resampled
from trcgl.metrics.rows import Rows, Value, descending

SPECIFICITY = 0.95
SLACK = 1e-9
"""A share of false alarms that exceeds 5 % only by rounding is allowed."""


def _value(positive: Rows, score: Rows, weight: Rows, specificity: float = SPECIFICITY) -> Value:
    """The largest sensitivity of any threshold whose specificity is at least `specificity`.

    Rows of one score are called together, so ties can only lower the value. It is 0 where no threshold that calls a
    positive reaches the specificity.
    """
    order, ends = descending(score)
    hits = np.cumsum(weight[order] * positive[order])[ends]
    false = np.cumsum(weight[order] * (1 - positive[order]))[ends]
    allowed = false <= (1 - specificity + SLACK) * false[-1]
    return Value(float(hits[allowed].max(initial=0.0) / hits[-1]))


def _replicates(resampled: Resampled) -> Replicates:
    ranking = resampled.ranking
    allowed = ranking.false <= (1 - SPECIFICITY + SLACK) * ranking.negatives
    reached = np.where(allowed, ranking.hits, 0.0).max(axis=1) / ranking.hits[:, -1]
    return np.where(ranking.negatives[:, 0] > 0, reached, np.nan)


SENSITIVITY = Metric(
    "SENS95",
    "sensitivity at 95 % specificity",
    "share of the positives found where at most 5 % of the negatives are called",
    _value,
    _replicates,
    ranking=True,
    needs="a positive and a negative",
    order=30,
)
