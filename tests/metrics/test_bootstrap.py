import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trcgl.metrics import metrics
from trcgl.metrics.bootstrap import CHUNK, patient_bootstrap, resample_patients


def data(seed, *, weighted, decimals):
    rng = np.random.default_rng(seed)
    rows, findings, patients = 90, 4, 30
    owner = rng.integers(0, patients, rows)
    truth = (rng.random((rows, findings)) < [0.5, 0.2, 0.03, 0.0]).astype(np.float64)
    truth[rng.random((rows, findings)) < 0.1] = np.nan
    score = np.round(rng.random((rows, findings)), decimals)
    return truth, score, owner, rng.random(rows) if weighted else None


def resampled(truth, score, owner, weight, replicate, seed):
    """The rows of a replicate, written out."""
    patients = np.unique(owner)
    times = resample_patients(len(patients), seed, replicate)[np.searchsorted(patients, owner)]
    rows = np.repeat(np.arange(len(owner)), times)
    return truth[rows], score[rows], None if weight is None else weight[rows]


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([1, 12]))
@settings(max_examples=15)
def test_every_replicate_equals_the_metric_of_the_resampled_rows(seed, weighted, decimals):
    truth, score, owner, weight = data(seed, weighted=weighted, decimals=decimals)
    drawn = patient_bootstrap(truth, score, owner, weight, replicates=6, seed=seed)
    for replicate in range(6):
        rows = resampled(truth, score, owner, weight, replicate, seed)
        for finding in range(truth.shape[1]):
            of_finding = (rows[0][:, finding], rows[1][:, finding], rows[2])
            for values, metric in ((drawn.ap, metrics.average_precision), (drawn.auroc, metrics.auroc)):
                expected = metric(*of_finding).value
                ours = values[replicate, finding]
                assert np.isnan(ours) if expected is None else abs(ours - expected) <= 1e-12


def test_f1_equals_that_of_the_resampled_rows_and_calibration_error_keeps_its_bins():
    truth, score, owner, weight = data(1, weighted=True, decimals=3)
    drawn = patient_bootstrap(truth, score, owner, weight, thresholds=[0.4] * 4, replicates=5)
    for replicate in range(5):
        rows = resampled(truth, score, owner, weight, replicate, 0)
        expected = metrics.f1_at(0.4, rows[0][:, 0], rows[1][:, 0], rows[2]).value
        assert drawn.f1[replicate, 0] == pytest.approx(expected, abs=1e-12)
    once = patient_bootstrap(truth, score, np.zeros(len(owner)), weight, thresholds=[0.4] * 4, replicates=1)
    whole = [metrics.expected_calibration_error(truth[:, one], score[:, one], weight).value for one in range(4)]
    assert once.ece[0] == pytest.approx(whole, abs=1e-12)


def test_a_replicate_without_a_positive_is_undefined_not_zero():
    truth = np.array([[1.0], [0], [0], [0]])
    drawn = patient_bootstrap(truth, np.array([[0.9], [0.1], [0.2], [0.3]]), np.arange(4), replicates=200)
    without = np.array([resample_patients(4, 0, replicate)[0] == 0 for replicate in range(200)])
    assert 0 < without.sum() < 200
    assert (np.isnan(drawn.ap[:, 0]) == without).all()
    assert np.isnan(drawn.auroc[without, 0]).all()


def test_images_of_one_patient_are_drawn_together():
    truth, score = np.array([[1.0], [0], [1], [0]]), np.array([[0.9], [0.1], [0.2], [0.3]])
    drawn = patient_bootstrap(truth, score, ["a", "a", "a", "a"], replicates=20)
    assert np.ptp(drawn.ap) == 0


def test_draws_depend_on_the_seed_and_the_replicate_alone():
    truth, score, owner, _ = data(2, weighted=False, decimals=12)
    few = patient_bootstrap(truth, score, owner, replicates=CHUNK + 3, workers=1)
    more = patient_bootstrap(truth[:, :2], score[:, :2], owner, replicates=2 * CHUNK, workers=4)
    np.testing.assert_array_equal(few.ap[:, :2], more.ap[: CHUNK + 3])
    assert not np.array_equal(few.ap, patient_bootstrap(truth, score, owner, replicates=CHUNK + 3, seed=1).ap)


def test_draws_are_multinomial():
    counts = np.stack([resample_patients(50, 0, replicate) for replicate in range(400)])
    assert (counts.sum(1) == 50).all()
    assert counts.mean(0) == pytest.approx(1, abs=0.25)
    assert counts.var() == pytest.approx(0.98, abs=0.05)


def test_weights_may_differ_between_findings():
    truth, score, owner, _ = data(2, weighted=False, decimals=2)
    own = np.random.default_rng(0).random(truth.shape)
    drawn = patient_bootstrap(truth, score, owner, own, replicates=20)
    for finding in range(3):
        one = slice(finding, finding + 1)
        alone = patient_bootstrap(truth[:, one], score[:, one], owner, own[:, finding], replicates=20)
        assert np.array_equal(alone.ap[:, 0], drawn.ap[:, finding], equal_nan=True)
