"""A function that checks the contract of a head, built in or from another package."""

import torch
from torch import Tensor

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.contract import Head
from trcgl.model.label_graph import Labels

_WIDTH, _FINDINGS = 32, 6


def check_head(cls: type[Head]) -> None:
    """Check that a head keeps the contract: shapes, maps, gradients, and scores that do not depend on the batch.

        check_head(MyHead)      # in a test of your own package

    Args:
        cls: the class; it is built with small settings and run on random features.

    Raises:
        RecipeError: the head breaks the contract; the message says how.
    """
    recipe = ModelRecipe(learn_gates=True, label_embedding=16, reduction=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for findings in (1, _FINDINGS):
            for batch, rows, columns in ((1, 1, 1), (2, 4, 4), (1, 3, 5)):
                head = cls(_WIDTH, recipe, Labels(torch.eye(findings))).eval()  # dropout: maps do not sum to 1
                output = head(torch.randn(batch, _WIDTH, rows, columns))
                _expect_shape(cls, "logits", output.logits, (batch, findings))
                if output.maps is not None:
                    _expect_shape(cls, "maps", output.maps, (batch, findings, rows, columns))
                    _expect(cls, bool((output.maps >= 0).all()), "maps have negative values")
                    sums = output.maps.sum((2, 3))
                    _expect(cls, torch.allclose(sums, torch.ones_like(sums), atol=1e-4), "a map does not sum to 1")

        feature = torch.randn(3, _WIDTH, 4, 4)
        head = cls(_WIDTH, recipe, Labels(torch.eye(_FINDINGS)))
        head(feature).logits.square().sum().backward()
        untrained = [name for name, p in head.named_parameters() if p.requires_grad and p.grad is None]
        _expect(cls, not untrained, f"parameters that no logit depends on: {', '.join(untrained)}")
        head.eval()
        logits = head(feature).logits
        _expect(cls, torch.equal(logits, head(feature).logits), "logits differ between two calls in evaluation mode")
        alone = torch.allclose(logits[1:2], head(feature[1:2]).logits, atol=1e-4)
        _expect(cls, alone, "logits of an image depend on the other images of its batch")


def _expect_shape(cls: type[Head], name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    _expect(cls, tensor.shape == shape, f"{name} have the shape {tuple(tensor.shape)}, not {shape}")


def _expect(cls: type[Head], holds: bool, problem: str) -> None:
    if not holds:
        raise RecipeError(f"head {cls.__qualname__}: {problem}.")
