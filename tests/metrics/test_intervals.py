import importlib.util
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from trcgl.metrics.intervals import (
    difference_interval,
    effective_patients,
    error_interval,
    freedom_of_mean,
    interval,
)

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("coverage_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def coverage(simulation, setting, datasets, replicates):
    target = simulation.population(setting, 200_000 if datasets < 1000 else 3_000_000)
    work = partial(simulation.covered, setting=setting, target=target, replicates=replicates)
    results = [work(seed) for seed in range(datasets)]
    return {name: np.mean([result[name][0] for result in results]) for name in ("AP", "AUC")}


def test_the_interval_covers_the_truth_about_as_often_as_it_says(simulation):
    found = coverage(simulation, simulation.Setting(30, 0.05, 0.9, fixed=False), 100, 200)
    assert all(0.9 <= share <= 0.99 for share in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patients", "prevalence", "area", "fixed"), [(20, 0.01, 0.9, True), (30, 0.05, 0.8, False), (60, 0.2, 0.7, False)]
)
def test_the_interval_covers_the_truth_in_92_to_98_percent_of_1000_data_sets(
    simulation, patients, prevalence, area, fixed
):
    found = coverage(simulation, simulation.Setting(patients, prevalence, area, fixed), 1000, 1000)
    assert all(0.92 <= share <= 0.98 for share in found.values()), found


@pytest.mark.slow
def test_the_interval_of_a_mean_covers_the_truth_as_often(simulation):
    each = simulation.population(simulation._of_mean(20))
    results = [simulation.mean_covered(seed, (20, 20), each, 1000) for seed in range(1000)]
    shares = {name: np.mean([result[name][0] for result in results]) for name in each}
    assert all(0.92 <= share <= 0.98 for share in shares.values()), shares


def test_a_mean_has_as_many_degrees_of_freedom_as_what_varies_in_it():
    rng = np.random.default_rng(0)
    steady, shaky = rng.normal(0.5, 0.01, 500), rng.normal(0.5, 0.1, 500)
    both, freedom = np.stack([steady, shaky], axis=1), np.array([100.0, 4.0])
    assert 4 < freedom_of_mean(both, freedom) < 4.2  # nearly all that varies is the finding with five patients
    assert freedom_of_mean(both[:, :1], freedom[:1]) == pytest.approx(100)
    assert freedom_of_mean(np.stack([shaky, shaky], axis=1), np.array([10.0, 10.0])) == pytest.approx(20)
    assert freedom_of_mean(np.ones((500, 2)), freedom) == 4
    assert freedom_of_mean(both, np.array([100.0, 0.0])) == 0


def test_an_interval_holds_its_estimate_and_stays_between_zero_and_one():
    rng = np.random.default_rng(0)
    for value in (0.001, 0.03, 0.5, 0.97, 0.999):
        samples = np.clip(value + rng.normal(0, 0.05, 500), 0, 1)
        for rule in (interval, error_interval):
            low, high = rule(value, samples, 10.0).ends
            assert 0 <= low <= value <= high <= 1


def test_fewer_patients_make_a_wider_interval():
    samples = np.random.default_rng(0).uniform(0.6, 0.8, 500)
    lengths = [np.diff(interval(0.7, samples, freedom).ends)[0] for freedom in (2.0, 5.0, 50.0)]
    assert lengths[0] > lengths[1] > lengths[2]


def test_a_perfect_score_on_five_patients_is_not_certain():
    low, high = interval(1.0, np.ones(500), 4.0).ends
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 5))
    low, high = interval(0.0, np.zeros(500), 4.0).ends
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 5))


def test_sums_that_miss_one_by_rounding_count_as_one():
    almost = np.nextafter(1.0, 0.0)
    resampled = np.random.default_rng(0).choice([0.8, almost, 1.0], 500)
    assert interval(almost, resampled, 3.0).ends == pytest.approx(interval(1.0, resampled.round(3), 3.0).ends)
    assert interval(almost, resampled.clip(almost), 3.0).ends == pytest.approx(interval(1.0, np.ones(500), 3.0).ends)


def test_undefined_replicates_are_dropped_and_counted():
    samples = np.random.default_rng(0).uniform(0.6, 0.8, 500)
    samples[:100] = np.nan
    found = interval(0.7, samples, 20.0)
    assert found.dropped == 100
    assert found.ends == interval(0.7, samples[100:], 20.0).ends


@pytest.mark.parametrize("rule", [interval, error_interval, difference_interval])
def test_without_two_positive_patients_or_enough_replicates_there_is_no_interval_but_a_reason(rule):
    samples = np.full(500, 0.5)
    assert rule(0.5, samples, 0.0)[:2] == (None, "fewer than two positive patients: no interval")
    samples[50:] = np.nan
    assert rule(0.5, samples, 10.0)[:2] == (None, "only 50 of 500 replicates are defined: no interval")


def test_a_patient_with_many_positive_images_counts_for_less_than_as_many_patients():
    owner = np.array([0, 1, 2, 3])
    assert effective_patients(np.array([1.0, 1, 1, 0]), owner) == pytest.approx(3)
    assert effective_patients(np.array([1.0, 1, 1, 1]), np.array([0, 0, 0, 1])) == pytest.approx(16 / 10)
    assert effective_patients(np.array([0.0, np.nan, 0, 0]), owner) == 0


def test_the_interval_of_a_difference_is_centered_on_it():
    low, high = difference_interval(0.1, np.random.default_rng(0).normal(0.1, 0.02, 500), 40.0).ends
    assert (low + high) / 2 == pytest.approx(0.1) and 0.03 < high - 0.1 < 0.05
