import math

import pytest
import torch

from tests.training.losses.build import build_loss
from trcgl.training.losses.base import effective_number_weights, log_odds


def softplus(value):
    return math.log1p(math.exp(value))


def test_effective_number_weights_by_hand():
    # beta 0.9: 1 - 0.9^1 = 0.1, 1 - 0.9^2 = 0.19, 1 - 0.9^10 = 0.651322, so e = 1, 0.526316, 0.153534, mean 0.559950
    weights = effective_number_weights(torch.tensor([1, 2, 10]), 0.9)
    torch.testing.assert_close(weights, torch.tensor([1.785874, 0.939934, 0.274192]), rtol=1e-5, atol=1e-5)
    assert torch.allclose(effective_number_weights(torch.tensor([1, 2, 10]), 0.9, 0.5), weights.sqrt())


def test_effective_number_weights_go_from_equal_to_inverse_frequency():
    counts = torch.tensor([5, 50, 500])
    assert torch.equal(effective_number_weights(counts, 0.0), torch.ones(3))
    inverse = 1 / counts
    torch.testing.assert_close(
        effective_number_weights(counts, 1 - 1e-9), inverse / inverse.mean(), rtol=1e-4, atol=1e-4
    )


def test_class_balanced_loss_by_hand():
    # beta 0.5, 1 and 2 positives: weights 1.2 and 0.8; log(1 + exp(-1)) = 0.313262, log(1 + exp(1)) = 1.313262
    loss = build_loss("class_balanced", torch.tensor([1, 2]), 10, beta=0.5)
    value = loss(torch.ones(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    expected = [[1.2 * 0.313262, 0.8 * 0.313262], [1.2 * 1.313262, 0.8 * 1.313262]]
    torch.testing.assert_close(value, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_distribution_balanced_loss_of_the_paper_by_hand():
    # 4 and 1 positives among 10 rows: 1/n = 0.25 and 1; log-odds log(4/6) and log(1/9), of which nu is -0.05 times.
    #   row (1, 0): sum 0.25, r = 1 and 4       weights 0.1 + sigmoid(8) = 1.099665 and 0.1 + sigmoid(38) = 1.1
    #   row (1, 1): sum 1.25, r = 0.2 and 0.8   weights 0.1 + sigmoid(0) = 0.6 and 0.1 + sigmoid(6) = 1.097527
    #   row (0, 0): sum 0, r without bound      weights 1.1 and 1.1
    # At logit 0 a positive costs log(1 + exp(nu)) and a negative log(1 + exp(-2 nu)) / 2.
    loss = build_loss("distribution_balanced", torch.tensor([4, 1]), 10, divide_shift=False, focal_gamma=0.0)
    value = loss(torch.zeros(3, 2), torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    common, rare = -0.05 * math.log(4 / 6), -0.05 * math.log(1 / 9)
    expected = [
        [1.099665 * softplus(common), 1.1 * softplus(-2 * rare) / 2],
        [0.6 * softplus(common), 1.097527 * softplus(rare)],
        [1.1 * softplus(-2 * common) / 2, 1.1 * softplus(-2 * rare) / 2],
    ]
    torch.testing.assert_close(value, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_distribution_balanced_loss_weighs_a_frequent_finding_less_beside_a_rare_finding():
    loss = build_loss("distribution_balanced", torch.tensor([400, 4]), 1000)
    alone, beside = loss(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))[:, 0]
    assert beside < alone / 2


def test_distribution_balanced_loss_pushes_an_easy_negative_less_than_cross_entropy():
    logits = torch.full((1, 1), -3.0, requires_grad=True)
    slopes = []
    for name, settings in (("bce", {}), ("distribution_balanced", {"rebalance_slope": 0.0, "rebalance_floor": 0.5})):
        loss = build_loss(name, torch.tensor([5]), 10, **settings)
        slopes += torch.autograd.grad(loss(logits, torch.zeros(1, 1)).sum(), logits)
    assert slopes[1] < slopes[0] / 2


def test_log_odds_count_rows_with_a_known_label():
    known = torch.tensor([10, 4])
    torch.testing.assert_close(log_odds(torch.tensor([2, 2]), known), torch.tensor([0.25, 1.0]).log())


def test_log_odds_by_hand():
    expected = [math.log(1 / 9), 0.0, math.log(9), math.log(0.5 / 10), math.log(10 / 0.5)]
    torch.testing.assert_close(log_odds(torch.tensor([1, 5, 9, 0, 10]), 10), torch.tensor(expected))


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_logit_adjustment_shifts_every_logit_by_the_log_odds_of_its_finding(tau):
    positives, logits, target = torch.tensor([1, 5, 90]), torch.randn(4, 3), torch.randint(0, 2, (4, 3)).float()
    adjusted = build_loss("logit_adjusted", positives, 100, tau=tau)
    plain = build_loss("bce", positives, 100)
    shift = torch.tensor([math.log(1 / 99), math.log(5 / 95), math.log(90 / 10)])
    torch.testing.assert_close(adjusted(logits, target), plain(logits + tau * shift, target))


def test_logit_adjustment_removes_the_frequency_from_the_score():
    # One of ten rows has the finding: cross-entropy pulls the logit of all of them down, the adjusted one leaves it.
    target = torch.zeros(10, 1).index_fill_(0, torch.tensor([3]), 1.0)
    slopes = []
    for name in ("bce", "logit_adjusted"):
        logit = torch.zeros(1, requires_grad=True)
        loss = build_loss(name, torch.tensor([1]), 10)(logit.expand(10, 1), target)
        slopes += torch.autograd.grad(loss.mean(), logit)
    assert slopes[0] == pytest.approx(0.4)
    assert slopes[1] == pytest.approx(0.0, abs=1e-6)
