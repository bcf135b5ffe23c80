import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trcgl.metrics.auroc import AUROC
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.bootstrap import CHUNK, patient_bootstrap, resample_patients
from trcgl.metrics.registry import METRICS, RANKING

THRESHOLD = 0.4
BINNED = "ECE"
"""Replicates of this metric keep the bins of the original data, so they are not its value on the resampled rows."""


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


@pytest.mark.parametrize("metric", [metric for name, metric in METRICS.items() if name != BINNED])
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([1, 12]))
@settings(max_examples=15)
def test_every_replicate_equals_the_metric_of_the_resampled_rows(metric, seed, weighted, decimals):
    truth, score, owner, weight = data(seed, weighted=weighted, decimals=decimals)
    samples = patient_bootstrap(
        truth, score, owner, weight, metrics=(metric,), thresholds=[THRESHOLD] * 4, replicates=6, seed=seed
    )[metric.name]
    for replicate in range(6):
        rows = resampled(truth, score, owner, weight, replicate, seed)
        for finding in range(truth.shape[1]):
            expected = metric(rows[0][:, finding], rows[1][:, finding], rows[2], THRESHOLD).value
            ours = samples[replicate, finding]
            assert np.isnan(ours) if expected is None else abs(ours - expected) <= 1e-12


@pytest.mark.parametrize("metric", METRICS.values())
def test_resampling_every_patient_once_gives_the_value(metric):
    truth, score, owner, weight = data(1, weighted=True, decimals=3)
    samples = patient_bootstrap(
        truth, score, np.zeros(len(owner)), weight, metrics=(metric,), thresholds=[THRESHOLD] * 4, replicates=1
    )[metric.name]
    whole = [metric(truth[:, column], score[:, column], weight, THRESHOLD).value for column in range(4)]
    assert samples[0] == pytest.approx(np.array(whole, np.float64), abs=1e-12, nan_ok=True)


def test_a_replicate_without_a_positive_or_a_negative_is_undefined_not_zero_or_one():
    truth = np.array([[1.0], [0], [0], [0]])
    samples = patient_bootstrap(
        truth, np.array([[0.9], [0.1], [0.2], [0.3]]), np.arange(4), metrics=RANKING, replicates=200
    )
    drawn = np.array([resample_patients(4, 0, replicate) for replicate in range(200)])
    without = (drawn[:, 0] == 0) | (drawn[:, 1:].sum(axis=1) == 0)
    assert 0 < without.sum() < 200
    assert (np.isnan(samples["AP"][:, 0]) == without).all()
    assert np.isnan(samples["AUC"][without, 0]).all()


def test_images_of_one_patient_are_resampled_together():
    truth, score = np.array([[1.0], [0], [1], [0]]), np.array([[0.9], [0.1], [0.2], [0.3]])
    samples = patient_bootstrap(truth, score, ["a", "a", "a", "a"], metrics=(AVERAGE_PRECISION,), replicates=20)
    assert np.ptp(samples["AP"]) == 0


def test_resamples_depend_only_on_the_seed_and_the_replicate():
    truth, score, owner, _ = data(2, weighted=False, decimals=12)
    how = {"metrics": (AVERAGE_PRECISION,), "replicates": CHUNK + 3}
    few = patient_bootstrap(truth, score, owner, **how, workers=1)["AP"]
    more = patient_bootstrap(truth[:, :2], score[:, :2], owner, **how | {"replicates": 2 * CHUNK}, workers=4)["AP"]
    np.testing.assert_array_equal(few[:, :2], more[: CHUNK + 3])
    assert not np.array_equal(few, patient_bootstrap(truth, score, owner, **how, seed=1)["AP"])


def test_resamples_are_multinomial():
    counts = np.stack([resample_patients(50, 0, replicate) for replicate in range(400)])
    assert (counts.sum(1) == 50).all()
    assert counts.mean(0) == pytest.approx(1, abs=0.25)
    assert counts.var() == pytest.approx(0.98, abs=0.05)


def test_weights_may_differ_between_findings():
    truth, score, owner, _ = data(2, weighted=False, decimals=2)
    own = np.random.default_rng(0).random(truth.shape)
    samples = patient_bootstrap(truth, score, owner, own, metrics=(AUROC, AVERAGE_PRECISION), replicates=20)
    for finding in range(3):
        column = slice(finding, finding + 1)
        alone = patient_bootstrap(
            truth[:, column], score[:, column], owner, own[:, finding], metrics=(AVERAGE_PRECISION,), replicates=20
        )
        assert np.array_equal(alone["AP"][:, 0], samples["AP"][:, finding], equal_nan=True)
