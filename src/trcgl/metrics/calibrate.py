"""Calibration on val: one temperature for all findings, and one threshold per finding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from trcgl.core.errors import DataError
from trcgl.metrics.rows import Rows, Table, descending, known_rows

DEFAULT_THRESHOLD = 0.5
LOW, HIGH = 0.05, 20.0
"""Range of the temperature."""


@dataclass(frozen=True)
class Calibration:
    """The temperature T of sigmoid(logit / T), and for each finding the probability from which it is called present."""

    temperature: float
    thresholds: dict[str, float]


def fit_calibration(
    logits: Table,
    truth: Table,
    findings: Sequence[str],
    weight: Rows | None = None,
    fixed_threshold: float | None = None,
) -> Calibration:
    """Fit the temperature, then for each finding the threshold with the best F1 on the calibrated probabilities.

    A finding without a positive has the threshold 0.5. With `fixed_threshold`, a probability before calibration, the
    threshold of every finding is that probability after calibration.
    """
    temperature = fit_temperature(logits, truth, weight)
    if fixed_threshold is not None:
        return Calibration(temperature, dict.fromkeys(findings, float(expit(logit(fixed_threshold) / temperature))))
    score = calibrated(logits, temperature)
    thresholds = {}
    for column, finding in enumerate(findings):
        threshold = fit_threshold(truth[:, column], score[:, column], weight)
        thresholds[finding] = DEFAULT_THRESHOLD if threshold is None else threshold
    return Calibration(temperature, thresholds)


def fit_temperature(logits: Table, truth: Table, weight: Rows | None = None) -> float:
    """The temperature T that minimizes the masked negative log-likelihood of sigmoid(logit / T) (Guo et al. 2017).

    Returns:
        T between 0.05 and 20; 1 where no label is known.

    Raises:
        DataError: a logit of a known label is not finite.
    """
    known = ~np.isnan(truth)
    if not known.any():
        return 1.0
    logit, label = logits[known].astype(np.float64), truth[known].astype(np.float64)
    if not np.isfinite(logit).all():
        raise DataError("a logit on val is not finite: training diverged. Lower the learning rate and train again.")
    each = np.broadcast_to(np.ones(len(truth)) if weight is None else weight, truth.T.shape).T[known]

    def loss(log_temperature: float) -> float:
        scaled = logit / np.exp(log_temperature)
        return float(each @ (np.logaddexp(0, scaled) - label * scaled) / each.sum())

    found = minimize_scalar(loss, bounds=(np.log(LOW), np.log(HIGH)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def calibrated(logits: Table, temperature: float) -> Table:
    """Probabilities sigmoid(logit / T), in the dtype of the logits."""
    return expit(logits / np.asarray(temperature, logits.dtype))


def fit_threshold(truth: Rows, score: Rows, weight: Rows | None = None) -> float | None:
    """The threshold with the best F1, where a score of at least the threshold calls the finding present.

    It lies halfway between the lowest score that is called and the next lower score, so that it does not depend on one
    image. Of several thresholds with the same F1 it is the highest, which calls the fewest images. None without a
    positive.
    """
    positive, score, weight = known_rows(truth, score, weight)
    if not weight @ positive > 0:
        return None
    order, ends = descending(score)
    hits = np.cumsum(weight[order] * positive[order])[ends]
    called = np.cumsum(weight[order])[ends]
    best = int(np.argmax(2 * hits / (called + hits[-1])))
    distinct = score[order][ends]
    return float((distinct[best] + distinct[best + 1]) / 2 if best + 1 < len(distinct) else distinct[best])
