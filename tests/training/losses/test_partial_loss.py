import math

import pytest
import torch

from tests.training.losses.build import build_loss
from trcgl.training.losses.base import elements


def loss_of(alpha=0.1):
    return build_loss("entropy_maximization", torch.tensor([5]), 10, unknown_weight=alpha)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_loss_of_an_unknown_label_by_hand(probability):
    entropy = -probability * math.log(probability) - (1 - probability) * math.log(1 - probability)
    value = loss_of(0.3).of_unknown(torch.tensor([[probability]]).logit())
    assert value.item() == pytest.approx(0.3 * (math.log(2) - entropy), abs=1e-6)


def test_an_unknown_label_leaves_confident_and_undecided_scores_alone():
    logits = torch.tensor([[-30.0], [-1.5], [0.0], [1.5], [30.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss_of().of_unknown(logits).sum(), logits)
    p = torch.sigmoid(logits)
    torch.testing.assert_close(gradient, 0.1 * p * (1 - p) * logits, rtol=1e-4, atol=1e-7)
    assert gradient.abs()[[0, 2, 4]].max() < 1e-7 < gradient.abs()[[1, 3]].min()


def test_known_labels_cost_their_cross_entropy_and_unknown_labels_count_as_well():
    logits, target = torch.tensor([[1.0, -1.0, 2.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    known = torch.tensor([[True, True, False]])
    value, counted = elements(loss_of(), logits, target, known, torch.tensor([True]))
    assert counted.all()
    cross_entropy = math.log1p(math.exp(-1))
    unknown = loss_of().of_unknown(logits)[0, 2].item()
    torch.testing.assert_close(value, torch.tensor([[cross_entropy, cross_entropy, unknown]]))


def test_a_padding_row_does_not_count():
    known = torch.zeros(2, 1, dtype=torch.bool)
    _, counted = elements(loss_of(), torch.randn(2, 1), torch.zeros(2, 1), known, torch.tensor([True, False]))
    assert counted.tolist() == [[True], [False]]
