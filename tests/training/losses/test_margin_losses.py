import pytest
import torch

from tests.training.losses.build import build_loss


def test_published_margin_loss_by_hand():
    # beta 0.5: 1 - 0.5^1 = 0.5 and 1 - 0.5^2 = 0.75, so e = (0.5/0.5, 0.5/0.75) = (1, 2/3), mean 5/6;
    # weights sqrt(1 / (5/6)) = 1.095445 and sqrt((2/3) / (5/6)) = 0.894427; margins 0.2 * (1/2, 2/2) = 0.1, 0.2.
    # Positive, logit 1: log(1 + exp(-0.9)) = 0.341154 and log(1 + exp(-0.8)) = 0.371101.
    # Negative, logit 1: no margin, log(1 + exp(1)) = 1.313262.
    loss = build_loss("published_margin", torch.tensor([1, 2]), 10, beta=0.5)
    value = loss(torch.ones(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    expected = [
        [1.095445 * 0.341154, 0.894427 * 0.371101],
        [1.095445 * 1.313262, 0.894427 * 1.313262],
    ]
    torch.testing.assert_close(value, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_the_margin_of_the_release_runs_from_0_to_the_largest_by_effective_number():
    # beta 0.5: effective numbers 2 (1 - 0.5^n) of 1, 2 and 3 positives are 1, 1.5 and 1.75
    loss = build_loss("published_margin", torch.tensor([3, 1, 2]), 10, beta=0.5, margin="effective_number")
    torch.testing.assert_close(loss.margin, 0.2 * torch.tensor([1.0, 0.0, 0.5 / 0.75]))
    alike = build_loss("published_margin", torch.tensor([3, 3]), 10, margin="effective_number")
    assert alike.margin.tolist() == [0, 0]


def test_the_margin_of_ldam_is_larger_the_rarer_a_finding():
    loss = build_loss("ldam", torch.tensor([10_000, 700, 30, 1, 0]), 20_000, max_margin=0.5)
    head, medium, tail, single, none = loss.margin.tolist()
    assert head < medium < tail < single == none == pytest.approx(0.5)
    published = build_loss("published_margin", torch.tensor([10_000, 700, 30]), 20_000, max_margin=0.5)
    assert published.margin[0] > published.margin[1] > published.margin[2]


@pytest.mark.parametrize(("scale", "first", "second"), [(1.0, 0.386871, 0.474077), (2.0, 0.201413, 0.313262)])
def test_ldam_by_hand(scale, first, second):
    # 16 and 1 positives: margins 0.5 * 16^-1/4 = 0.25 and 0.5. Positive, logit 1: log(1 + exp(-s * 0.75)) and
    # log(1 + exp(-s * 0.5)). Negative, logit 1: no margin, log(1 + exp(s)).
    loss = build_loss("ldam", torch.tensor([16, 1]), 20, max_margin=0.5, margin_scale=scale)
    value = loss(torch.ones(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    negative = {1.0: 1.313262, 2.0: 2.126928}[scale]
    torch.testing.assert_close(value, torch.tensor([[first, second], [negative, negative]]), rtol=1e-5, atol=1e-5)


def test_ldam_weights_findings_after_its_share_of_the_steps():
    # beta 0.5: e = (1, 2/3), mean 5/6, so the weights are 1.2 and 0.8
    loss = build_loss("ldam", torch.tensor([1, 2]), 10, beta=0.5, defer=0.8)
    logits, target = torch.randn(3, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    before = loss(logits, target)
    loss.progress = 0.79
    assert torch.equal(loss(logits, target), before)
    loss.progress = 0.8
    torch.testing.assert_close(loss(logits, target), before * torch.tensor([1.2, 0.8]))


def test_ldam_deferred_to_the_end_never_weights_findings():
    loss = build_loss("ldam", torch.tensor([1, 2000]), 4000, defer=1.0)
    logits, target = torch.randn(3, 2), torch.ones(3, 2)
    before = loss(logits, target)
    loss.progress = 999 / 1000
    assert torch.equal(loss(logits, target), before)
