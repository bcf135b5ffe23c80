"""Distances agree with the peers', do not depend on tiles, and know what they cannot measure."""

from functools import partial

import numpy as np
import pytest
import torch

from trcgl.audit import kernels
from trcgl.audit.kernels import (
    Neighborhood,
    check,
    frechet,
    gaussian,
    group_sums,
    median_bandwidth,
    neighborhood,
    polynomial,
    strips,
)
from trcgl.audit.permutation import TwoGroups
from trcgl.core.errors import DataError

TOLERANCE = 1e-4


def features(rows, columns=24, shift=0.0, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, columns)) * scale + shift).astype(np.float32)


def distance(x, y, kernel):
    """The distance of two sets as the fidelity check computes it, with one image per patient."""
    check(x, y)
    rows = np.concatenate([x, y])
    sums = group_sums(rows, np.arange(len(rows)), kernel)
    return TwoGroups(sums, np.arange(len(rows)) < len(x)).value()


kid = partial(distance, kernel=polynomial)


def discrepancy(x, y, kernel):
    """The unbiased estimate as it is written in the paper."""
    x, y = torch.from_numpy(x).double(), torch.from_numpy(y).double()
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return float(sum(within) - 2 * xy.mean())


@pytest.fixture(params=["one tile", "many tiles"])
def tiles(request, monkeypatch):
    if request.param == "many tiles":
        monkeypatch.setattr(kernels, "_PRODUCTS", 100)
        monkeypatch.setattr(kernels, "_TILE", 17)


def test_kid_is_that_of_torchmetrics(tiles):
    from torchmetrics.image.kid import poly_mmd

    x, y = features(90, shift=0.2, seed=1), features(90)
    expected = poly_mmd(torch.from_numpy(x).double(), torch.from_numpy(y).double())
    assert kid(x, y) == pytest.approx(float(expected), abs=TOLERANCE)
    assert kid(x, y) > 0.01


def test_kid_and_rbf_mmd_are_those_of_torch_fidelity_with_one_subset_of_all(tiles):
    fidelity = pytest.importorskip("torch_fidelity.metric_kid", reason="torch-fidelity is not installed")
    x, y = features(80, shift=0.2, seed=1), features(80)
    asked = {"kid_subsets": 1, "kid_subset_size": 80, "verbose": False}
    for ours, options in [
        (kid(x, y), {"kid_kernel": "poly"}),
        (distance(x, y, gaussian(5.0)), {"kid_kernel": "rbf", "kid_kernel_rbf_sigma": 5.0}),
    ]:
        peer = fidelity.kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), **asked, **options)
        assert ours == pytest.approx(peer["kernel_inception_distance_mean"], abs=TOLERANCE)
        assert ours > 1e-3


def test_a_mean_over_random_subsets_estimates_the_same_with_more_noise():
    from torchmetrics.image.kid import poly_mmd

    x, y = features(200, shift=0.2, seed=1), features(200)
    rng = np.random.default_rng(0)
    subsets = [
        float(poly_mmd(*(torch.from_numpy(sample[rng.permutation(200)[:50]]).double() for sample in (x, y))))
        for _ in range(100)
    ]
    error = np.std(subsets) / 10
    assert np.mean(subsets) == pytest.approx(kid(x, y), abs=4 * error)
    assert np.std(subsets) > 0.1 * kid(x, y)


@pytest.mark.parametrize("kernel", [polynomial, gaussian(6.0)])
def test_sets_of_different_size_are_compared_without_bias(tiles, kernel):
    x, y = features(31, shift=0.3, seed=1), features(77)
    assert distance(x, y, kernel) == pytest.approx(discrepancy(x, y, kernel), abs=1e-10)


def test_equal_distributions_are_0_apart_in_the_mean():
    values = [kid(features(20, seed=2 * trial), features(30, seed=2 * trial + 1)) for trial in range(200)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5
    assert min(values) < 0


def test_the_bandwidth_is_the_median_distance():
    real = features(60)
    distances = torch.pdist(torch.from_numpy(real).double())
    assert median_bandwidth(real) == pytest.approx(float(np.median(distances.numpy())), rel=1e-9)
    assert median_bandwidth(features(3000), most=200) == pytest.approx(median_bandwidth(features(3000)), rel=0.02)


def test_features_that_are_all_the_same_have_no_bandwidth():
    same = np.ones((20, 4), np.float32)
    with pytest.raises(DataError, match="another space"):
        gaussian(median_bandwidth(same))


def test_the_frechet_distance_is_that_of_torchmetrics():
    from torchmetrics.image.fid import _compute_fid

    x, y = features(300, scale=np.linspace(0.2, 2, 24), seed=1), features(200, shift=0.3)
    moments = []
    for sample in (x, y):
        rows = torch.from_numpy(sample).double()
        moments += [rows.mean(0), torch.cov(rows.T)]
    assert frechet(x, y).value == pytest.approx(float(_compute_fid(*moments)), abs=TOLERANCE)


def test_the_frechet_distance_of_normal_distributions_is_known():
    x, y = features(200_000, 3, scale=np.array([1, 2, 0.5]), seed=1), features(200_000, 3, shift=1.0)
    assert frechet(x, y).value == pytest.approx(3 + 0 + 1 + 0.25, abs=0.05)
    assert frechet(y, y).value == pytest.approx(0, abs=1e-9)


def test_fewer_images_than_features_have_no_frechet_distance():
    refused = frechet(features(23), features(500))
    assert refused.value is None and "23 images are fewer than the 24 features" in refused.why
    assert frechet(features(24), features(500)).value > 0


def test_a_feature_that_never_varies_does_not_upset_the_frechet_distance():
    x, y = features(100, seed=1), features(100)
    without = frechet(x, y).value
    constant = [np.concatenate([sample, np.full((100, 3), 7, np.float32)], 1) for sample in (x, y)]
    assert frechet(*constant).value == pytest.approx(without, rel=1e-6)


def test_precision_and_recall_are_those_of_torch_fidelity(tiles):
    fidelity = pytest.importorskip("torch_fidelity.metric_prc", reason="torch-fidelity is not installed")
    real, synthetic = features(150), features(120, shift=0.4, seed=1)
    ours = neighborhood(real, synthetic, 3)
    peer = fidelity.calculate_precision_recall_part(
        torch.from_numpy(synthetic).double(), torch.from_numpy(real).double(), neighborhood=3, batch_size=50
    )
    assert (ours.precision, ours.recall) == pytest.approx(peer, abs=TOLERANCE)
    assert 0.1 < ours.precision < 0.95 and 0.1 < ours.recall < 0.95


def test_density_and_coverage_follow_the_paper(tiles):
    real, synthetic, k = features(90), features(70, scale=0.9, seed=1), 5
    cross = np.linalg.norm(real[:, None].astype(float) - synthetic[None], axis=2)
    own = np.sort(np.linalg.norm(real[:, None].astype(float) - real[None], axis=2), axis=1)[:, k]
    within = cross <= own[:, None]
    found = neighborhood(real, synthetic, k)
    assert found.density == pytest.approx(within.sum() / (k * len(synthetic)))
    assert found.coverage == pytest.approx(within.any(1).mean())


def test_copies_are_precise_and_cover_all():
    real = features(100)
    found = neighborhood(real, real.copy())
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)
    assert found.density == pytest.approx(1.2), "an image reaches its 5 neighbors and its own copy"


def test_images_of_one_kind_are_precise_but_leave_most_uncovered():
    real = np.concatenate([features(50, seed=1), features(50, shift=20, seed=2)])
    collapsed = neighborhood(real, features(60, scale=0.5, seed=3))
    assert collapsed.precision > 0.95 and collapsed.density > 1
    assert collapsed.coverage <= 0.5 and collapsed.recall <= 0.5


def test_images_of_another_world_are_out_of_reach():
    assert neighborhood(features(50), features(40, shift=50, seed=1)) == Neighborhood(0.0, 0.0, 0.0, 0.0)


def test_sums_over_groups_are_those_of_the_whole_matrix(tiles):
    x, owner = features(40), np.random.default_rng(0).integers(0, 7, 40)
    owner[:7] = np.arange(7)
    whole = polynomial(*[torch.from_numpy(x).double()] * 2).numpy()
    member = np.eye(7)[owner]
    np.testing.assert_allclose(group_sums(x, owner, polynomial), member.T @ whole @ member, rtol=1e-10)


def test_no_more_pairs_than_the_budget_are_held(monkeypatch):
    monkeypatch.setattr(kernels, "_PRODUCTS", 1000)
    held = [values.numel() for _, values in strips(features(300), features(90), polynomial)]
    assert sum(held) == 300 * 90 and max(held) <= 1000


@pytest.mark.parametrize("measure", [kid, frechet, partial(distance, kernel=gaussian(1.0)), neighborhood])
def test_what_cannot_be_measured_is_refused(measure):
    broken = features(30)
    broken[11, 3] = np.nan
    with pytest.raises(DataError, match="image 11 are not finite"):
        measure(broken, features(30))
    with pytest.raises(DataError, match="images"):
        measure(features(1), features(30))


def test_neighborhoods_take_more_images_than_neighbors():
    with pytest.raises(DataError, match="5 images: neighborhoods of 5 take more"):
        neighborhood(features(30), features(5), 5)
