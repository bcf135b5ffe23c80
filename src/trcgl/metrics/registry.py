"""All metrics, in the order of the tables. A new metric is one file with its entry, and one line here."""

from trcgl.metrics.auroc import AUROC
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.calibration_error import CALIBRATION_ERROR
from trcgl.metrics.f1 import F1
from trcgl.metrics.metric import Metric
from trcgl.metrics.predictive_value import POSITIVE_PREDICTIVE_VALUE
from trcgl.metrics.sensitivity import SENSITIVITY

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (AVERAGE_PRECISION, AUROC, SENSITIVITY, F1, POSITIVE_PREDICTIVE_VALUE, CALIBRATION_ERROR)
}
RANKING: tuple[Metric, ...] = tuple(metric for metric in METRICS.values() if metric.ranking)
"""The metrics that depend only on the order of the scores."""
