import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.losses.build import build_loss
from trcgl.training.batches import known_labels
from trcgl.training.losses import LOSSES
from trcgl.training.losses.base import elements, masked_mean, smoothed


def logit(probability: float) -> torch.Tensor:
    return torch.tensor([[probability]]).logit()


def loss_at(name: str, probability: float, target: float, **settings) -> float:
    loss = build_loss(name, torch.tensor([5]), 10, **settings)
    return loss(logit(probability), torch.tensor([[float(target)]])).item()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("share", [0.25, 0.9])
def test_a_mixed_label_has_the_mixture_of_both_losses(name, share):
    # Margins of positives, and weights that depend on all labels of a row, are not linear in the label: off here.
    off = {"max_margin": 0.0, "rebalance_slope": 0.0}
    own = {field.name for field in dataclasses.fields(LOSSES[name].Settings)}
    loss = build_loss(name, torch.tensor([30, 3]), 100, **{key: value for key, value in off.items() if key in own})
    logits = torch.tensor([[-1.5, 0.7]])
    mixed = loss(logits, torch.full((1, 2), share))
    wanted = share * loss(logits, torch.ones(1, 2)) + (1 - share) * loss(logits, torch.zeros(1, 2))
    assert torch.allclose(mixed, wanted, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("progress", [0.0, 0.99])
def test_every_loss_learns_from_mixed_labels(name, progress):
    loss = build_loss(name, torch.tensor([30, 3]), 100)
    loss.progress = progress
    logits = torch.tensor([[-12.0, 12.0], [0.0, 0.5]], requires_grad=True)
    value = loss(logits, torch.tensor([[0.25, 0.9], [0.5, 0.0]]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert (value >= 0).all() and value.isfinite().all()
    assert gradient[0, 0] < 0 < gradient[0, 1]  # towards a share above and a share below the score


@pytest.mark.parametrize("name", LOSSES)
def test_permuting_the_rows_permutes_every_loss(name):
    loss = build_loss(name, torch.tensor([3, 50, 900]), 1000)
    logits, target, order = torch.randn(6, 3), torch.randint(0, 2, (6, 3)).float(), torch.randperm(6)
    torch.testing.assert_close(loss(logits[order], target[order]), loss(logits, target)[order])


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_counts_the_same_in_any_batch(name):
    loss = build_loss(name, torch.tensor([3, 50, 900]), 1000)
    logits, target = torch.randn(6, 3), torch.randint(0, 2, (6, 3)).float()
    torch.testing.assert_close(loss(logits, target)[2:3], loss(logits[2:3], target[2:3]))


@pytest.mark.parametrize("name", LOSSES)
def test_an_unknown_label_never_makes_a_loss_or_a_gradient_undefined(name):
    loss = build_loss(name, torch.tensor([3, 0, 90]), 100)
    logits = torch.tensor([[1e2, -1e2, 0.0], [-1e2, 1e2, 3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    nan = float("nan")
    label = torch.tensor([[nan, 1.0, nan], [nan, nan, nan], [0.0, nan, 1.0]])
    real = torch.tensor([True, True, False])
    target, known = known_labels(label, real)
    value = masked_mean(*elements(loss, logits, target, known, real), torch.ones(3))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite() and gradient.isfinite().all()
    assert gradient[0, 1] < 0  # the one label that is known
    assert not gradient[2].any()  # a row that only fills the batch


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "entropy_maximization"])
def test_only_entropy_maximization_learns_from_unknown_labels(name):
    loss = build_loss(name, torch.tensor([3, 5]), 100)
    known = torch.tensor([[True, False], [False, True]])
    _, counted = elements(loss, torch.randn(2, 2), torch.zeros(2, 2), known, torch.tensor([True, True]))
    assert torch.equal(counted, known)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_loss_is_finite_for_extreme_logits_and_findings_without_positives(name, dtype):
    loss = build_loss(name, torch.tensor([0, 7, 100_000]), 100_000)
    logits = torch.tensor([[-200.0, 0.0, 200.0], [200.0, 0.0, -200.0]], dtype=dtype, requires_grad=True)
    for target in (torch.zeros(2, 3), torch.ones(2, 3)):
        value = loss(logits, target)
        assert value.shape == (2, 3) and value.dtype == torch.float32
        assert value.isfinite().all() and (value >= 0).all()
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert gradient.isfinite().all()
        unknown = loss.of_unknown(logits)
        assert unknown is None or (unknown.dtype == torch.float32 and unknown.isfinite().all())


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_as_the_logit_moves_towards_the_label(name):
    loss = build_loss(name, torch.tensor([5]), 10)
    logits = torch.linspace(-4, 4, 50)[:, None]
    assert (loss(logits, torch.ones(50, 1)).diff(dim=0) < 0).all()
    assert (loss(logits, torch.zeros(50, 1)).diff(dim=0) >= 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_relabeling_the_findings_permutes_every_loss(name):
    positives, order = torch.tensor([3, 50, 0, 900]), torch.tensor([2, 0, 3, 1])
    logits, target = torch.randn(6, 4), torch.randint(0, 2, (6, 4)).float()
    straight = build_loss(name, positives, 1000)(logits, target)
    permuted = build_loss(name, positives[order], 1000)(logits[:, order], target[:, order])
    torch.testing.assert_close(permuted, straight[:, order])


def test_cross_entropy_by_hand():
    assert loss_at("bce", 0.8, 1) == pytest.approx(-math.log(0.8), rel=1e-5)


def test_label_smoothing_moves_the_target_of_every_loss_by_hand():
    # smoothing 0.1 makes the target 1 * 0.9 + 0.05 = 0.95
    target = smoothed(torch.tensor([[1.0]]), 0.1).item()
    expected = -0.95 * math.log(0.8) - 0.05 * math.log(0.2)
    assert loss_at("bce", 0.8, target) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_by_hand():
    assert loss_at("focal", 0.9, 1) == pytest.approx(0.1**2 * -math.log(0.9), rel=1e-4)
    assert loss_at("focal", 0.9, 0) == pytest.approx(0.9**2 * -math.log(0.1), rel=1e-4)


@pytest.mark.parametrize(
    ("probability", "expected"), [(0.02, 0.0), (0.1, 0.0), (0.5, 0.025), (0.8, 0.44), (0.95, 1.51)]
)
def test_asymmetric_loss_shifts_the_probability_of_a_negative_as_published(probability, expected):
    # for instance p = 0.8: p_m = 0.75, 0.75^4 = 0.3164, -log(0.25) = 1.3863, product 0.4386
    assert loss_at("asl", probability, 0) == pytest.approx(expected, abs=0.005)


def test_asymmetric_loss_keeps_pushing_down_a_hard_negative():
    loss = build_loss("asl", torch.tensor([5]), 10)
    logits = torch.tensor([[3.0]], requires_grad=True)
    loss(logits, torch.zeros(1, 1)).sum().backward()
    assert logits.grad.item() > 0.1


def test_asymmetric_loss_of_a_positive_by_hand():
    assert loss_at("asl", 0.6, 1) == pytest.approx(-math.log(0.6), rel=1e-5)
    assert loss_at("asl", 0.6, 1, gamma_positive=1.0) == pytest.approx(0.4 * -math.log(0.6), rel=1e-5)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_masked_mean_is_the_weighted_mean_over_known_labels_only(batch, findings, seed):
    source = torch.Generator().manual_seed(seed)
    values = torch.rand(batch, findings, generator=source)
    known = torch.rand(batch, findings, generator=source) < 0.6
    weight = torch.rand(batch, generator=source) + 0.1
    values[~known] = float("nan")
    pairs = [(values[i, j].item(), weight[i].item()) for i in range(batch) for j in range(findings) if known[i, j]]
    expected = sum(v * w for v, w in pairs) / sum(w for _, w in pairs) if pairs else 0.0
    assert masked_mean(values, known, weight).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_an_unknown_label_has_no_gradient():
    logits = torch.randn(2, 3, requires_grad=True)
    known = torch.tensor([[True, False, True], [False, True, True]])
    elementwise = build_loss("bce", torch.ones(3), 2)(logits, torch.zeros(2, 3))
    masked_mean(elementwise, known, torch.ones(2)).backward()
    assert torch.equal(logits.grad != 0, known)


def test_halves_with_a_common_denominator_average_to_the_whole():
    values, known = torch.rand(8, 3), torch.rand(8, 3) < 0.5
    weight = torch.rand(8)
    whole = masked_mean(values, known, weight)
    common = (known * weight[:, None]).sum() / 2
    halves = [masked_mean(values[s], known[s], weight[s], common) for s in (slice(0, 3), slice(3, 8))]
    torch.testing.assert_close(sum(halves) / 2, whole)
