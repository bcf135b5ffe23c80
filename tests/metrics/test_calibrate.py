import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from tests.evaluate.examples import SPACE, predictions
from trcgl.core.errors import DataError
from trcgl.metrics.calibrate import calibrated, fit_calibration, fit_temperature, fit_threshold
from trcgl.metrics.f1 import F1


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_logits_were_multiplied_by_is_found(temperature):
    rng = np.random.default_rng(0)
    logit = rng.normal(-1, 2, (8000, 4))
    truth = (rng.random(logit.shape) < expit(logit)).astype(np.float64)
    assert fit_temperature(logit * temperature, truth) == pytest.approx(temperature, rel=0.05)


def test_an_unknown_label_has_no_say_in_the_temperature():
    rng = np.random.default_rng(0)
    logit = rng.normal(size=(500, 4))
    truth = (rng.random((500, 4)) < expit(2 * logit)).astype(np.float64)
    unknown = np.where(np.arange(500)[:, None] < 250, truth, np.nan)
    assert fit_temperature(logit, unknown) == pytest.approx(fit_temperature(logit[:250], truth[:250]))


def test_a_weighted_image_counts_more():
    logit, truth = np.array([[4.0], [4.0]]), np.array([[1.0], [0.0]])
    assert fit_temperature(logit, truth, np.array([9.0, 1.0])) < fit_temperature(logit, truth, np.array([6.0, 4.0]))


def test_without_labels_the_temperature_is_one_and_a_diverged_network_is_refused():
    assert fit_temperature(np.zeros((3, 2)), np.full((3, 2), np.nan)) == 1
    with pytest.raises(DataError, match="diverged"):
        fit_temperature(np.full((3, 2), np.nan), np.ones((3, 2)))


def test_calibration_keeps_the_order_of_scores():
    logit = np.linspace(-30, 30, 50, dtype=np.float32)[:, None]
    score = calibrated(logit, 2.5)
    assert score.dtype == np.float32 and (np.diff(score[:, 0]) >= 0).all()


@given(st.integers(0, 10_000))
@settings(max_examples=60)
def test_no_threshold_has_a_better_f1(seed):
    rng = np.random.default_rng(seed)
    truth, score = (rng.random(40) < 0.3).astype(np.float64), np.round(rng.random(40), 2)
    threshold = fit_threshold(truth, score)
    if truth.any():
        best = max(F1(truth, score, None, cut).value for cut in score)
        assert F1(truth, score, None, threshold).value == pytest.approx(best)


def test_the_threshold_lies_between_two_scores_and_of_equals_it_is_the_highest():
    assert fit_threshold(np.array([0.0, 1, 1]), np.array([0.2, 0.6, 0.8])) == pytest.approx(0.4)
    # Calling one or all three images gives the same F1, 1/2 at recall 1/2... the fewer calls are kept.
    truth, score = np.array([1.0, 0, 0, 1]), np.array([0.9, 0.8, 0.7, 0.1])
    assert F1(truth, score, None, 0.85).value == pytest.approx(F1(truth, score, None, 0.05).value)
    assert fit_threshold(truth, score) == pytest.approx(0.85)


def test_a_finding_without_a_positive_in_val_has_the_threshold_one_half():
    val = predictions(40)
    truth = val.truth.copy()
    truth[:, 3] = 0
    thresholds = fit_calibration(val.logit, truth, SPACE.findings).thresholds
    assert thresholds["Hernia"] == 0.5
    assert set(thresholds) == set(SPACE.findings) and thresholds["Nodule"] != 0.5


def test_thresholds_are_fitted_on_calibrated_scores():
    val = predictions(200)
    fitted = fit_calibration(3 * val.logit, val.truth, SPACE.findings, val.weight)
    score = calibrated(3 * val.logit, fitted.temperature)
    assert fitted.temperature == pytest.approx(fit_temperature(3 * val.logit, val.truth, val.weight))
    assert fitted.thresholds["Nodule"] == fit_threshold(val.truth[:, 2], score[:, 2], val.weight)


def test_a_fixed_threshold_is_a_probability_before_calibration():
    logits = np.random.default_rng(0).normal(0, 3, (200, 2))
    truth = (np.random.default_rng(1).random((200, 2)) < expit(logits / 2)).astype(np.float64)
    found = fit_calibration(logits, truth, ("A", "B"), None, 0.2)
    called = calibrated(logits, found.temperature) >= found.thresholds["A"]
    assert abs(found.temperature - 1) > 0.3 and found.thresholds["A"] == found.thresholds["B"]
    assert np.array_equal(called, expit(logits) >= 0.2)
