"""The test holds its level on equal distributions, clustered or not, and finds a shift; too little is refused."""

import dataclasses
import json

import numpy as np
import pytest

from tests.audit.clusters import images_of, several
from tests.audit.distances import ordinary
from trcgl.audit.checks.fidelity import FIGURES, KERNELS, compare_with_real, overall
from trcgl.audit.kernels import frechet, gaussian, median_bandwidth, neighborhood
from trcgl.audit.patients import PatientImages, Sides
from trcgl.core.errors import DataError, RecipeError

DESIGNS = {
    "one image a patient": lambda seed: ((np.ones(40, int), 0.0), (np.ones(40, int), 0.0)),
    "many sources, few patients": lambda seed: ((np.ones(90, int), 0.0), (several(15, 2, seed), 0.7)),
    "few sources, many patients": lambda seed: ((np.full(15, 6), 0.0), (np.ones(90, int), 0.0)),
    "alike on both sides": lambda seed: ((several(30, 3, seed), 0.3), (several(25, 1.5, seed + 1), 0.8)),
}
"""Images of each patient and how alike they are: of the synthetic images by source, and of the real ones."""


def compare(synthetic, real, *, train=None, kernel="kid", seed=0, **options):
    train = train or images_of(np.ones(60, int), side="t", seed=999)
    sides = Sides(*(PatientImages.of(*images) for images in (synthetic, real, train)))
    return compare_with_real(sides, kernel=kernel, seed=seed, **options)


def all_of(synthetic, real, *, train=None, **options):
    train = train or images_of(np.ones(120, int), side="t", seed=999)
    sides = Sides(*(PatientImages.of(*images) for images in (synthetic, real, train)))
    return overall(sides, seed=0, **options)


def rejections(design, kernel, simulations, shift=0.0, level=0.05):
    """How many of the simulations give p < level."""
    found = 0
    for seed in range(simulations):
        (counts, alike), (real_counts, real_alike) = DESIGNS[design](10 * seed)
        synthetic = images_of(counts, alike=alike, shift=shift, side="s", seed=2 * seed)
        real = images_of(real_counts, alike=real_alike, side="h", seed=2 * seed + 1)
        found += compare(synthetic, real, kernel=kernel, seed=seed, permutations=99, repetitions=1).p < level
    return found


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_distributions_are_told_apart_in_at_most_10_of_100_runs(design, kernel):
    assert rejections(design, kernel, 100) <= 10


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_shift_is_found(design, kernel):
    assert rejections(design, kernel, 10, shift=0.6) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_level_holds_over_1000_runs(design, kernel):
    found = rejections(design, kernel, 1000)
    print(f"{design}, {kernel}: {found} of 1,000 below .05")
    assert 20 <= found <= 80, "no more than it should, and not so few that the test would be blind"


def covered(simulations, shift):
    """How often the interval holds the true distance, that of two sets of 20,000 images."""
    truth = 0.0
    if shift:
        large = np.ones(20_000, int)
        truth = ordinary(images_of(large, shift=shift, seed=1)[0], images_of(large, seed=2)[0])
    inside = 0
    for seed in range(simulations):
        synthetic = images_of(np.full(40, 3), shift=shift, side="s", seed=10 + 2 * seed)
        real = images_of(several(50, 1.5, seed), alike=0.7, side="h", seed=11 + 2 * seed)
        low, high = compare(synthetic, real, seed=seed, permutations=1, repetitions=1).ci
        inside += low <= truth <= high
    return inside


def test_the_interval_holds_0_on_equal_distributions():
    assert covered(100, 0.0) >= 90


@pytest.mark.slow
def test_the_interval_holds_the_true_distance_in_95_of_100_runs():
    inside = covered(400, 0.5)
    print(f"{inside} of 400 intervals hold the true distance")
    assert 0.92 <= inside / 400 <= 0.985


def test_several_images_of_a_patient_are_no_distance():
    """The ordinary estimate takes the likeness of a patient's images for a distance; this one does not."""
    independent, ours = [], []
    for seed in range(60):
        synthetic = images_of(np.ones(60, int), side="s", seed=2 * seed)
        real = images_of(np.full(20, 5), alike=0.8, side="h", seed=2 * seed + 1)
        independent.append(ordinary(synthetic[0], real[0]))
        ours.append(compare(synthetic, real, permutations=1, repetitions=1).value)
    error = np.std(ours) / 60**0.5
    assert abs(np.mean(ours)) < 3 * error
    assert np.mean(independent) > 5 * error


@pytest.mark.parametrize("kernel", KERNELS)
def test_with_one_image_a_patient_the_value_is_the_ordinary_one(kernel):
    synthetic = images_of(np.ones(30, int), shift=0.3, side="s")
    real = images_of(np.ones(45, int), side="h", seed=1)
    train = images_of(np.ones(25, int), side="t", seed=2)
    found = compare(synthetic, real, train=train, kernel=kernel)
    if kernel == "kid":
        assert found.value == pytest.approx(ordinary(synthetic[0], real[0])) and found.bandwidth is None
    else:
        bandwidth = median_bandwidth(np.concatenate([real[0], train[0]]))
        assert found.bandwidth == bandwidth, "of real images only"
        assert found.value == pytest.approx(ordinary(synthetic[0], real[0], gaussian(bandwidth)))


def test_the_null_is_real_against_real_at_the_same_number_of_images():
    synthetic = images_of(np.ones(30, int), shift=0.8, side="s")
    real = images_of(np.ones(50, int), side="h", seed=1)
    train = images_of(np.ones(200, int), side="t", seed=2)
    found = compare(synthetic, real, train=train)
    assert (found.n_synthetic, found.n_real, found.n_null) == (30, 50, 30)
    assert found.null_ci[0] < found.null < found.null_ci[1] < found.ci[0] < found.value
    assert found.p == 1 / 1000
    fewer = compare(images_of(np.ones(200, int), side="s"), real, train=images_of(np.ones(30, int), side="t"))
    assert (fewer.n_synthetic, fewer.n_null) == (200, 30)


def test_the_null_is_wider_with_fewer_images():
    real, train = images_of(np.ones(60, int), side="h", seed=1), images_of(np.ones(200, int), side="t", seed=2)
    widths = [
        np.ptp(compare(images_of(np.ones(count, int), side="s"), real, train=train).null_ci) for count in (15, 150)
    ]
    assert widths[0] > 1.5 * widths[1]


def test_a_difference_between_the_splits_shows_in_the_null():
    synthetic, real = images_of(np.ones(60, int), shift=0.8, side="s"), images_of(np.ones(60, int), side="h", seed=1)
    found = compare(synthetic, real, train=images_of(np.ones(90, int), shift=0.8, side="t", seed=2))
    assert found.null > found.null_ci[1]


def test_the_same_seed_gives_the_same_answer():
    synthetic, real = images_of(np.full(20, 3), side="s"), images_of(np.full(20, 2), side="h", seed=1)
    assert compare(synthetic, real, seed=3) == compare(synthetic, real, seed=3)
    assert compare(synthetic, real, seed=3).p != compare(synthetic, real, seed=4).p


def test_the_order_of_the_images_does_not_matter():
    features, sources = images_of(np.full(20, 3), shift=0.2, side="s")
    real = images_of(np.full(20, 2), side="h", seed=1)
    order = np.random.default_rng(0).permutation(60)
    mixed = compare((features[order], [sources[row] for row in order]), real)
    found = compare((features, sources), real)
    assert mixed.value == pytest.approx(found.value, rel=1e-9) and mixed.p == found.p


def test_large_sets_are_sampled_and_say_so():
    synthetic, real = images_of(np.full(100, 2), side="s"), images_of(np.ones(150, int), side="h", seed=1)
    found = compare(synthetic, real, most=80)
    assert (found.n_synthetic, found.n_real, found.patients["synthetic"]) == (80, 80, 40)


@pytest.mark.parametrize(("sources", "patients"), [(9, 50), (50, 9), (0, 50)])
def test_too_few_patients_are_refused_with_the_number(sources, patients):
    synthetic = images_of(np.full(sources, 20), side="s")
    found = compare(synthetic, images_of(np.full(patients, 3), side="h", seed=1))
    assert found.value is found.ci is found.p is found.null is None
    assert f"images of {min(sources, patients)} patients" in found.why
    assert found.n_synthetic == 20 * sources and found.patients["synthetic"] == sources


def test_too_few_training_patients_leave_the_value_without_a_null():
    synthetic, real = images_of(np.ones(30, int), side="s"), images_of(np.ones(30, int), side="h", seed=1)
    for counts in (np.ones(4, int), np.ones(0, int), np.full(12, 20)):
        found = compare(synthetic, real, train=images_of(counts, side="t"))
        assert found.value is not None and found.why is None
        assert found.null is found.null_ci is None
        assert "patients" in found.null_why


def test_a_held_out_patient_who_was_trained_on_is_an_error():
    synthetic, real = images_of(np.ones(30, int), side="s"), images_of(np.ones(30, int), side="h", seed=1)
    with pytest.raises(DataError, match="30 held-out patients"):
        compare(synthetic, real, train=images_of(np.ones(30, int), side="h"))
    with pytest.raises(DataError, match="30 held-out patients"):
        all_of(images_of(np.ones(30, int), side="h"), real)


def test_bad_input_is_refused():
    synthetic, real = images_of(np.ones(30, int), side="s"), images_of(np.ones(30, int), side="h", seed=1)
    with pytest.raises(RecipeError, match="kid and rbf"):
        compare(synthetic, real, kernel="cubic")
    with pytest.raises(DataError, match="30 images, but 29 patients"):
        compare((synthetic[0], synthetic[1][1:]), real)
    synthetic[0][5] = np.inf
    with pytest.raises(DataError, match="not finite"):
        compare(synthetic, real)


def test_everything_is_plain_json():
    synthetic, real = images_of(np.ones(30, int), side="s"), images_of(np.ones(30, int), side="h", seed=1)
    for found in (compare(synthetic, real, kernel="rbf"), compare(synthetic, real), all_of(synthetic, real)):
        again = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
        assert again["n_real"] == 30


def test_overall_figures_are_those_of_the_functions():
    synthetic, real = images_of(np.ones(80, int), shift=0.3, side="s"), images_of(np.ones(90, int), side="h", seed=1)
    found = all_of(synthetic, real)
    near = neighborhood(real[0], synthetic[0])
    assert found.n == 80 and found.n_real == 90 and found.features == 16
    assert found.figures["FD"].value == pytest.approx(frechet(real[0], synthetic[0]).value)
    for name in FIGURES[1:]:
        assert found.figures[name].value == pytest.approx(getattr(near, name))


def test_overall_figures_of_real_like_images_lie_with_the_null_and_of_others_outside():
    real = images_of(several(80, 1.5, 0), alike=0.5, side="h", seed=1)
    train = images_of(several(200, 1.5, 1), alike=0.5, side="t", seed=2)
    alike = all_of(images_of(np.ones(100, int), side="s", seed=3), real, train=train)
    apart = all_of(images_of(np.ones(100, int), shift=1.0, side="s", seed=3), real, train=train)
    for name in FIGURES:
        low, high = alike.figures[name].null_range
        assert low <= alike.figures[name].null <= high
        assert abs(alike.figures[name].value - alike.figures[name].null) < 3 * (high - low)
        assert not low <= apart.figures[name].value <= high
    assert apart.figures["FD"].value > 2 * alike.figures["FD"].value


def test_more_synthetic_than_training_images_are_compared_at_the_smaller_number():
    synthetic, real = images_of(np.ones(150, int), side="s"), images_of(np.ones(90, int), side="h", seed=1)
    found = all_of(synthetic, real, train=images_of(np.ones(60, int), side="t", seed=2))
    assert found.n == 60
    fewer = all_of(images_of(np.ones(60, int), side="s"), real, train=images_of(np.ones(60, int), side="t", seed=2))
    assert found.figures["FD"].value == pytest.approx(fewer.figures["FD"].value, rel=0.5)


def test_overall_leaves_out_only_what_the_numbers_do_not_allow():
    synthetic, real = images_of(np.ones(15, int), side="s"), images_of(np.ones(90, int), side="h", seed=1)
    found = all_of(synthetic, real)
    assert found.figures["FD"].value is None and "fewer than the 16 features" in found.figures["FD"].why
    assert found.figures["precision"].value is not None
    nothing = all_of(images_of(np.ones(5, int), side="s"), real)
    assert all(nothing.figures[name].value is None and "5 patients" in nothing.figures[name].why for name in FIGURES)
