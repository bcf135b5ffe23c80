"""The one signature of all heads, and what several of them are made of."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.label_graph import Labels


class HeadOutput(NamedTuple):
    """What a head returns.

    Args:
        logits: (B, C).
        maps: (B, C, h, w), each map sums to 1; None for a head without attention.
        experts: (E, B, C), what is trained where `logits` only averages it; None for a head without experts.
    """

    logits: Tensor
    maps: Tensor | None
    experts: Tensor | None = None


class Head(nn.Module, ABC):
    """A head is built as `HEADS[name](width, recipe, labels)`.

    Args:
        width: channels D of the feature map.
        recipe: the model's settings; a head reads those that concern it.
        labels: number of findings, label graph and text vectors; a head reads what concerns it.

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
        """Present value of every gate by name, for the log; empty for a head without gates."""
        return {}


def linear_classifier(width: int, findings: int, *, bias: bool = True) -> nn.Linear:
    """One classifier per finding, small at the start."""
    layer = nn.Linear(width, findings, bias=bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)  # as ConvNeXt's own classifier
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def own_logits(
    per_finding: Float[Tensor, "batch findings width"], classifier: nn.Linear
) -> Float[Tensor, "batch findings"]:
    """Each finding's classifier on that finding's own feature: W_c f_c + b_c."""
    return torch.einsum("bcd,cd->bc", per_finding, classifier.weight) + classifier.bias
