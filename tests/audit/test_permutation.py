"""The closed forms are those of leaving out and of exchanging patients one by one."""

import numpy as np
import pytest
from scipy.stats import t

from trcgl.audit.permutation import TwoGroups


def groups_of(first, second, seed=0, shift=0.0):
    x = np.random.default_rng(seed).normal(size=(first + second, 4))
    x[:first] += shift
    return TwoGroups((x @ x.T / 4 + 1) ** 3, np.arange(first + second) < first)


def without(groups, patient):
    stay = np.arange(len(groups.first)) != patient
    return TwoGroups(groups.kernel[np.ix_(stay, stay)], groups.first[stay]).value()


def test_pairs_of_one_patients_images_take_no_part():
    groups = groups_of(8, 12)
    changed = groups.kernel.copy()
    np.fill_diagonal(changed, 1e6)
    assert TwoGroups(changed, groups.first).value() == groups.value()


def test_the_value_is_the_mean_over_pairs():
    groups = groups_of(5, 7, shift=1.0)
    kernel, one, other = groups.kernel, range(5), range(5, 12)
    within = [np.mean([kernel[i, j] for i in own for j in own if i != j]) for own in (one, other)]
    across = np.mean([kernel[i, j] for i in one for j in other])
    assert groups.value() == pytest.approx(sum(within) - 2 * across)


def test_the_interval_is_the_jackknife_of_two_samples():
    groups = groups_of(9, 14, shift=0.5)
    left = np.array([without(groups, patient) for patient in range(23)])
    variance = sum((len(own) - 1) / len(own) * np.square(own - own.mean()).sum() for own in (left[:9], left[9:]))
    reach = t.ppf(0.975, 8) * variance**0.5
    assert groups.interval() == pytest.approx((groups.value() - reach, groups.value() + reach))


def test_two_groups_of_one_size_are_permuted_as_usual():
    groups = groups_of(12, 12, shift=0.3)
    rng = np.random.default_rng(1)
    usual = [TwoGroups(groups.kernel, rng.permutation(groups.first)).value() for _ in range(4000)]
    ours = groups.permuted(4000, np.random.default_rng(2))
    np.testing.assert_allclose(np.quantile(ours, [0.1, 0.5, 0.9]), np.quantile(usual, [0.1, 0.5, 0.9]), atol=0.08)
    assert np.std(usual) > 0.3, "the tolerance is small beside the spread"


def test_the_value_spreads_under_permutation_as_it_does_over_samples_where_groups_differ():
    """Means of ten images vary less than single ones: exchanging patients one by one would not know."""

    def sample(seed):
        rng = np.random.default_rng(seed)
        x = np.concatenate([rng.normal(size=(15, 4)) / 10**0.5, rng.normal(size=(60, 4))])
        return TwoGroups(x @ x.T, np.arange(75) < 15)

    spread = np.std([sample(seed).value() for seed in range(2000)])
    permuted = np.mean([sample(seed).permuted(200, np.random.default_rng(seed)).std() for seed in range(40)])
    assert permuted == pytest.approx(spread, rel=0.15)


def test_permutations_are_the_same_for_the_same_draws():
    groups = groups_of(10, 15)
    one, other = (groups.permuted(300, np.random.default_rng(5)) for _ in range(2))
    assert len(one) == 300 and np.array_equal(one, other) and one.std() > 0
