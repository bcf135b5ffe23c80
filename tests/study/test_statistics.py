import numpy as np
import pytest
from scipy import stats

from tests.study import simulated
from trcgl.study.statistics import Runs, difference, holm, mean

PATIENTS = 80.0
"""Effective positive patients of the simulated tail, less one for each finding."""
SIMULATIONS = 20


def pair(rng, *, apart=0.0, **settings):
    """Two arms on the same patients with seeds that they do not share, the second better by `apart` in signal."""
    truth, hardness = simulated.resample_patients(rng)
    first = simulated.runs(rng, truth, hardness, **settings)
    return first, simulated.runs(rng, truth, hardness, signal=2.0 + apart, **settings)


def found(estimate):
    low, high = estimate.interval()
    return low > 0 or high < 0


@pytest.mark.parametrize("between", [0.0, 0.15, 0.4])
def test_two_arms_that_differ_in_their_seeds_alone_are_rarely_called_different(between):
    pairs = [pair(np.random.default_rng(number), between=between) for number in range(SIMULATIONS)]
    assert sum(found(difference(second, first, PATIENTS)) for first, second in pairs) <= 3


def test_an_effect_of_twice_the_stated_detectable_difference_is_found():
    stated = np.median(
        [difference(*pair(np.random.default_rng(number)), PATIENTS).detectable() for number in range(SIMULATIONS)]
    )
    # The signal that moves tail mAP by so much, on many patients.
    rng = np.random.default_rng(99)
    truth, hardness = simulated.resample_patients(rng, patients=20_000)
    tried = np.linspace(0, 4, 21)
    many = [
        simulated.runs(
            np.random.default_rng(1), truth, hardness, signal=2.0 + effect, seeds=(0,), between=0, replicates=1
        )
        for effect in tried
    ]
    gain = np.array([run.values[0] for run in many]) - many[0].values[0]
    assert gain[-1] > 2 * stated
    apart = float(np.interp(2 * stated, gain, tried))
    pairs = [pair(np.random.default_rng(1000 + number), apart=apart) for number in range(SIMULATIONS)]
    assert sum(found(difference(second, first, PATIENTS)) for first, second in pairs) >= 16


def gaussian(rng, seeds, replicates=400, *, between=1.0, shared=1.0, own=1.0):
    """Runs whose value is a sum of normal parts: of the patients, of the seed and of both."""
    patients = shared * rng.normal(size=1 + replicates)
    parts = patients + own * rng.normal(size=(seeds, 1 + replicates)) + between * rng.normal(size=(seeds, 1))
    return Runs(tuple(range(seeds)), parts[:, 0], parts[:, 1:])


def test_the_standard_error_holds_patients_and_seeds_once_each():
    rng = np.random.default_rng(0)
    squares = [mean(gaussian(rng, 4, between=2.0, own=0.5), 1e9).error ** 2 for _ in range(2000)]
    assert np.mean(squares) == pytest.approx(1 + (2.0**2 + 0.5**2) / 4, rel=0.05)


@pytest.mark.parametrize(("between", "own"), [(0.0, 1.0), (1.0, 0.3), (4.0, 0.3)])
def test_the_interval_of_a_difference_over_three_seeds_covers_the_truth(between, own):
    rng = np.random.default_rng(1)
    settings = {"replicates": 150, "between": between, "own": own}
    ends = [difference(gaussian(rng, 3, **settings), gaussian(rng, 3, **settings), 1e9).interval() for _ in range(800)]
    assert 0.925 < np.mean([low < 0 < high for low, high in ends]) < 0.99


def test_patients_that_are_hard_for_both_arms_cancel_out():
    rng = np.random.default_rng(2)
    first = gaussian(rng, 3, shared=0.0)
    patients = 50 * rng.normal(size=401)
    both = [
        Runs(arm.seeds, arm.values + patients[0], arm.replicates + patients[1:]) for arm in (first, gaussian(rng, 3))
    ]
    assert difference(*both, 100.0).error < 5 < mean(both[0], 100.0).error


def test_seeds_are_paired_by_their_number_and_the_others_left_out():
    rng = np.random.default_rng(3)
    first, second = gaussian(rng, 4), gaussian(rng, 4)
    result = difference(first.at([0, 2, 3]), second.at([3, 2, 1]), 100.0)
    assert result.seeds == (2, 3)
    assert result.value == pytest.approx((first.values[2:] - second.values[2:]).mean())
    assert difference(first.at([0]), second.at([1]), 100.0) is None


def test_an_arm_does_not_differ_from_itself():
    first = gaussian(np.random.default_rng(4), 3)
    result = difference(first, first, 100.0)
    assert result.value == 0 and not found(result) and result.p() == 1


def test_one_seed_or_one_positive_patient_has_no_interval_and_says_why():
    rng = np.random.default_rng(5)
    first, second = gaussian(rng, 3), gaussian(rng, 3)
    alone = difference(first.at([0]), second.at([0]), 100.0)
    assert alone.interval() is None and alone.detectable() is None and "one seed" in alone.why
    assert "positive patients" in difference(first, second, 0.0).why
    undefined = Runs(first.seeds, first.values, np.where(np.arange(400) < 301, np.nan, first.replicates))
    result = difference(undefined, second, 100.0)
    assert result.dropped == 301 and "only 99 of 400" in result.why


def test_few_seeds_make_the_detectable_difference_larger_than_2_8_standard_errors_and_many_do_not():
    rng = np.random.default_rng(6)
    few = difference(gaussian(rng, 2, shared=0), gaussian(rng, 2, shared=0), 1e9)
    many = difference(gaussian(rng, 200, shared=0), gaussian(rng, 200, shared=0), 1e9)
    assert few.detectable() > 3.2 * few.error
    assert many.detectable() == pytest.approx(2.8 * many.error, rel=0.02)


def test_holm_adjusts_as_published_and_its_intervals_agree():
    result = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert {name: step.p for name, step in result.items()} == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    for name, step in result.items():
        left_out = abs(stats.norm.isf(p[name] / 2)) > stats.norm.isf(step.alpha / 2)
        assert left_out == (step.p < 0.05)
