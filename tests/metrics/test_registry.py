"""The contract of a metric, over the registry itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, roc_auc_score, roc_curve

from tests.metrics.test_metrics import case
from trcgl.core.errors import DataError
from trcgl.metrics.registry import METRICS
from trcgl.metrics.rows import NO_LABEL, NO_NEGATIVE, NO_POSITIVE

THRESHOLD = 0.5


def best_sensitivity(truth, score, sample_weight):
    false, sensitivity, _ = roc_curve(truth, score, sample_weight=sample_weight, drop_intermediate=False)
    return sensitivity[false <= 0.05 + 1e-9].max()


PEERS = {
    "AP": lambda truth, score, weight: average_precision_score(truth, score, sample_weight=weight),
    "AUC": lambda truth, score, weight: roc_auc_score(truth, score, sample_weight=weight),
    "SENS95": best_sensitivity,
    "F1": lambda truth, score, weight: f1_score(truth, score >= THRESHOLD, sample_weight=weight),
    "PPV": lambda truth, score, weight: precision_score(truth, score >= THRESHOLD, sample_weight=weight),
}
"""Names to implementations of scikit-learn; it has no calibration error."""

TRUTH = np.array([1, 0, 1, 0, 0, np.nan, 1, 0, 0, 0, 1, np.nan, 0, 0, 0, 0, 0, 0, 0, 0], np.float64)
SCORE = np.array([9, 8, 7, 7, 6, 9, 5, 4, 4, 3, 3, 1, 2, 2, 1, 1, 1, 0, 0, 0]) / 10
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def test_the_registry_finds_every_metric_of_the_package_in_the_order_of_the_tables():
    orders = [(metric.order, metric.name) for metric in METRICS.values()]
    assert orders == sorted(orders)
    assert [name for name in METRICS if name in {*PEERS, "ECE"}] == ["AP", "AUC", "SENS95", "F1", "PPV", "ECE"]


@every_metric
def test_a_metric_describes_itself(metric):
    assert METRICS[metric.name] is metric
    assert metric.label and metric.note and not metric.note.endswith(".")
    assert not (metric.ranking and metric.needs_threshold)


@every_metric
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_value_is_between_0_and_1_or_has_a_reason_and_agrees_with_scikit_learn(metric, seed):
    truth, score, weight = case(seed)
    value, why = metric(truth, score, weight, THRESHOLD)
    assert (value is None) == bool(why)
    if value is None:
        return
    assert 0 <= value <= 1 + 1e-12
    if peer := PEERS.get(metric.name):
        known = ~np.isnan(truth) if weight is None else ~np.isnan(truth) & (weight > 0)
        expected = peer(truth[known], score[known], None if weight is None else weight[known])
        assert value == pytest.approx(expected, abs=1e-12)


@every_metric
def test_weights_are_repetitions_of_rows(metric):
    times = 1 + np.arange(len(TRUTH)) % 3
    rows = np.repeat(np.arange(len(TRUTH)), times)
    weighted = metric(TRUTH, SCORE, times.astype(np.float64), THRESHOLD).value
    assert weighted is not None
    assert weighted == pytest.approx(metric(TRUTH[rows], SCORE[rows], None, THRESHOLD).value, abs=1e-12)


@every_metric
def test_unknown_labels_and_the_order_of_rows_do_not_matter(metric):
    weight = np.linspace(1, 2, len(TRUTH))
    order = np.random.default_rng(0).permutation(np.flatnonzero(~np.isnan(TRUTH)))
    value = metric(TRUTH, SCORE, weight, THRESHOLD).value
    assert value is not None
    assert value == pytest.approx(metric(TRUTH[order], SCORE[order], weight[order], THRESHOLD).value, abs=1e-12)


@every_metric
def test_without_a_label_a_metric_is_undefined(metric):
    assert metric(np.full(3, np.nan), np.linspace(0, 1, 3), None, THRESHOLD) == (None, NO_LABEL)


@every_metric
def test_a_metric_without_the_labels_it_needs_says_which(metric):
    score = np.array([0.2, 0.8])
    without_positive, without_negative = (metric(np.full(2, label), score, None, THRESHOLD) for label in (0.0, 1.0))
    assert (without_positive == (None, NO_POSITIVE)) == (metric.needs != "a label")
    assert (without_negative == (None, NO_NEGATIVE)) == (metric.needs == "a positive and a negative")
    assert (without_positive.value is not None) == (metric.needs == "a label")
    assert (without_negative.value is not None) == (metric.needs != "a positive and a negative")


@every_metric
def test_scores_that_are_not_finite_are_refused(metric):
    with pytest.raises(DataError, match="row 1: the score"):
        metric(np.array([1.0, 0]), np.array([0.5, np.nan]), None, THRESHOLD)


@every_metric
def test_a_perfect_model_is_better_than_one_that_is_always_wrong(metric):
    truth = np.repeat([0.0, 1.0], [60, 20])
    perfect, wrong = (metric(truth, np.abs(truth - side), None, THRESHOLD).value for side in (0, 1))
    assert (perfect > wrong) == metric.higher_is_better and perfect in (0, 1)


@every_metric
def test_an_interval_contains_its_value(metric):
    rng = np.random.default_rng(0)
    low, high = metric.interval(0.7, np.clip(rng.normal(0.7, 0.05, 500), 0, 1), 30.0).ends
    assert 0 <= low < 0.7 < high <= 1
    assert metric.interval(0.7, np.full(500, 0.7), 0.0).why
