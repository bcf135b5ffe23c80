"""The signature of all heads, and layers that several heads share."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.label_graph import Labels


class HeadOutput(NamedTuple):
    """Output of a head.

        logits, maps, _ = network(images)

    Args:
        logits: (B, C).
        maps: (B, C, h, w), attention of each finding over the feature map, which sums to 1; None for a head without
            attention.
        experts: (E, B, C), logits of each expert, which the loss is applied to; None for a head without experts.
    """

    logits: Tensor
    maps: Tensor | None
    experts: Tensor | None = None


class Head(nn.Module, ABC):
    """Base class of heads: from a feature map (B, D, h, w) to one logit per finding (B, C).

        class MaxHead(Head):
            def __init__(self, width, recipe, labels):
                super().__init__(width, recipe, labels)
                self.classifier = nn.Linear(width, labels.findings)

            def forward(self, feature):                                # (B, D, h, w)
                logits = self.classifier(feature.amax((2, 3)))         # (B, C)
                return HeadOutput(logits, maps=None)

    `trcgl.model.heads.check.check_head` checks a head against the contract.

    Args:
        width: channels D of the feature map.
        recipe: settings of the model; a head reads the fields that concern it.
        labels: number of findings C, label graph and text vectors.

    Raises:
        RecipeError: the settings contradict each other.
    """

    @abstractmethod
    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits, and attention maps where the head has them."""

    def gates(self) -> dict[str, float]:
        """Current value of each gate by name, for the training log; empty for a head without gates."""
        return {}


def linear_classifier(width: int, findings: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer with one output per finding, initialized as ConvNeXt's classifier."""
    layer = nn.Linear(width, findings, bias=bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def own_logits(
    per_finding: Float[Tensor, "batch findings width"], classifier: nn.Linear
) -> Float[Tensor, "batch findings"]:
    """Apply the classifier of each finding to the feature of that finding: W_c f_c + b_c."""
    return torch.einsum("bcd,cd->bc", per_finding, classifier.weight) + classifier.bias
