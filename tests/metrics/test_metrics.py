import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from trcgl.core.errors import DataError
from trcgl.metrics.auroc import AUROC
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.calibration_error import CALIBRATION_ERROR, mass_bins
from trcgl.metrics.f1 import F1
from trcgl.metrics.rows import NO_LABEL, NO_NEGATIVE, NO_POSITIVE

SEEDS = st.integers(0, 2**32 - 1)
PEERS = {AVERAGE_PRECISION: average_precision_score, AUROC: roc_auc_score}


def case(seed):
    """Labels, scores and weights with ties, unknowns and now and then a single class."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 80))
    truth = (rng.random(rows) < rng.choice([0, 0.05, 0.3, 0.7, 1])).astype(np.float64)
    score = np.round(rng.random(rows), int(rng.choice([1, 2, 12])))
    truth[rng.random(rows) < rng.choice([0, 0.3])] = np.nan
    weight = None if rng.random() < 0.5 else rng.random(rows) * (rng.random(rows) < 0.8)
    return truth, score, weight


@given(SEEDS)
@settings(max_examples=400)
def test_ap_and_auroc_equal_scikit_learns_with_ties_unknowns_and_weights(seed):
    for part in range(4):
        truth, score, weight = case((seed, part))
        known = ~np.isnan(truth)
        heavy = known if weight is None else known & (weight > 0)
        for ours, peer in PEERS.items():
            value, why = ours(truth, score, weight)
            if value is None:
                positives = np.sum(truth[heavy] == 1)
                assert why and (positives == 0 or positives == heavy.sum())
            else:
                with config_context(skip_parameter_validation=True):
                    expected = peer(truth[known], score[known], sample_weight=None if weight is None else weight[known])
                assert abs(value - expected) <= 1e-12


@given(SEEDS)
@settings(max_examples=50)
def test_f1_equals_scikit_learns(seed):
    truth, score, weight = case(seed)
    known = ~np.isnan(truth)
    value = F1(truth, score, weight, 0.5).value
    if value is not None:
        kept = None if weight is None else weight[known]
        assert value == pytest.approx(f1_score(truth[known], score[known] >= 0.5, sample_weight=kept), abs=1e-12)


@pytest.mark.parametrize(
    ("truth", "ranking", "at_threshold"),
    [
        ([0.0, 0.0], NO_POSITIVE, NO_POSITIVE),
        ([1.0, 1.0], NO_NEGATIVE, None),
        ([np.nan, np.nan], NO_LABEL, NO_LABEL),
    ],
)
def test_what_cannot_be_computed_has_no_value_and_a_reason(truth, ranking, at_threshold):
    score = np.array([0.1, 0.9])
    assert AVERAGE_PRECISION(np.array(truth), score) == (None, ranking)
    assert AUROC(np.array(truth), score) == (None, ranking)
    assert F1(np.array(truth), score).why == at_threshold


def test_an_unknown_label_counts_neither_as_present_nor_as_absent():
    truth, score = np.array([1, 0, np.nan, np.nan]), np.array([0.8, 0.3, 0.9, 0.1])
    for metric in (AVERAGE_PRECISION, AUROC, CALIBRATION_ERROR):
        assert metric(truth, score) == metric(truth[:2], score[:2])


def test_a_weight_of_two_is_the_image_twice():
    truth, score, _ = case(3)
    twice = np.repeat(np.arange(len(truth)), 1 + np.arange(len(truth)) % 2)
    weight = 1.0 + np.arange(len(truth)) % 2
    for metric in (AVERAGE_PRECISION, AUROC, CALIBRATION_ERROR):
        assert metric(truth, score, weight).value == pytest.approx(metric(truth[twice], score[twice]).value, abs=1e-12)


def test_calibration_error_at_a_hand_computed_point():
    # Two bins of two: scores .1 and .3 with no positive (gap .2), .6 and .8 with one positive (gap .2).
    truth, score = np.array([0.0, 0, 1, 0]), np.array([0.1, 0.3, 0.6, 0.8])
    assert CALIBRATION_ERROR(truth, score, bins=2).value == pytest.approx(0.2)


def test_scores_that_are_shares_have_no_calibration_error():
    truth = np.tile([0.0, 0, 0, 1], 250)
    assert CALIBRATION_ERROR(truth, np.full(1000, 0.25)).value == pytest.approx(0)


@given(SEEDS)
@settings(max_examples=100)
def test_calibration_error_does_not_hang_on_the_order_of_rows(seed):
    truth, score, weight = case(seed)
    order = np.random.default_rng(seed).permutation(len(truth))
    error = CALIBRATION_ERROR(truth, score, weight).value
    other = CALIBRATION_ERROR(truth[order], score[order], None if weight is None else weight[order]).value
    assert error == other or error == pytest.approx(other, abs=1e-12)


def test_bins_hold_equal_mass_and_tied_scores_stay_together():
    rng = np.random.default_rng(0)
    assert np.bincount(mass_bins(rng.random(1500), np.ones(1500))).tolist() == [100] * 15
    assert len(set(mass_bins(np.full(30, 0.5), np.ones(30)).tolist())) == 1


@pytest.mark.parametrize(
    ("score", "weight", "message"),
    [
        ([0.1, np.nan], [1.0, 1.0], "row 1: the score"),
        ([0.1, 0.2], [1.0, -1.0], "row 1: the weight"),
    ],
)
def test_scores_and_weights_that_are_none_are_refused(score, weight, message):
    with pytest.raises(DataError, match=message):
        AUROC(np.array([1.0, 0.0]), np.array(score), np.array(weight))
