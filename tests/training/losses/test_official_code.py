"""Losses equal the code that their authors released."""

import pytest
import torch

from tests.official_code import official
from tests.training.losses.build import build_loss

NUMBERS = official("losses")
ASL, BALANCED = NUMBERS["asl"], NUMBERS["distribution_balanced"]


def loss_and_gradient(loss, case):
    logits = torch.tensor(case["logits"], requires_grad=True)
    value = loss(logits, torch.tensor(case["target"]))
    return value.detach(), torch.autograd.grad(value.sum(), logits)[0]


def close(value, expected):
    torch.testing.assert_close(value, torch.as_tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ASL["cases"], ids=lambda case: str(case["arguments"]))
def test_asl_has_the_sum_and_the_gradient_of_the_authors_code(case):
    arguments = {"gamma_neg": 4, "gamma_pos": 1, "clip": 0.05} | case["arguments"]  # the defaults of their class
    loss = build_loss(
        "asl",
        torch.ones(5),
        10,
        gamma_negative=float(arguments["gamma_neg"]),
        gamma_positive=float(arguments["gamma_pos"]),
        clip=arguments["clip"],
        constant_focus=arguments.get("disable_torch_grad_focal_loss", True),
    )
    value, gradient = loss_and_gradient(loss, ASL)
    close(value.sum(), case["sum"])
    close(gradient, case["gradient"])


def test_asl_is_by_default_that_of_the_authors_training_script():
    (case,) = [case for case in ASL["cases"] if case["arguments"] == {"gamma_neg": 4, "gamma_pos": 0}]
    _, gradient = loss_and_gradient(build_loss("asl", torch.ones(5), 10), ASL)
    close(gradient, case["gradient"])


@pytest.mark.parametrize(("case", "settings"), [*zip(BALANCED["cases"], ({}, {"focal_gamma": 0.0}), strict=True)])
def test_distribution_balanced_loss_is_that_of_the_authors_code(case, settings):
    assert case["arguments"]["focal"]["focal"] != bool(settings)
    loss = build_loss("distribution_balanced", torch.tensor(BALANCED["positives"]), BALANCED["rows"], **settings)
    value, gradient = loss_and_gradient(loss, BALANCED)
    close(value, case["loss"])
    close(gradient, case["gradient"])
