"""Heads: a feature map in, one logit per finding out. Every head has one signature; `HEADS` is the registry."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.channel_reweighting import ChannelReweighting
from trcgl.model.class_attention import ClassAttention
from trcgl.model.label_graph import LabelGraph


class HeadOutput(NamedTuple):
    """What a head returns.

    Args:
        logits: (B, C).
        maps: (B, C, h, w), each map sums to 1; None for a head without attention.
    """

    logits: Tensor
    maps: Tensor | None


class Head(nn.Module, ABC):
    """A head is built as `HEADS[name](width, findings, recipe, adjacency)`.

    Args:
        width: channels D of the feature map.
        findings: number of findings C.
        recipe: the model's settings; a head reads those that concern it.
        adjacency: normalized label graph Â (C, C); a head without a graph ignores it.
    """

    @abstractmethod
    def __init__(
        self, width: int, findings: int, recipe: ModelRecipe, adjacency: Float[Tensor, "findings findings"]
    ) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits, and attention maps where the head has them."""

    def gates(self) -> dict[str, float]:
        """Present value of every gate by name, for the log; empty for a head without gates."""
        return {}


class LinearHead(Head):
    """Global average pooling and a linear layer: W mean_hw F + b. What timm does by default."""

    def __init__(
        self, width: int, findings: int, recipe: ModelRecipe, adjacency: Float[Tensor, "findings findings"]
    ) -> None:
        super().__init__(width, findings, recipe, adjacency)
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = _classifier(width, findings)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits; no maps."""
        pooled = feature.mean((2, 3))                                 # (B, D)
        return HeadOutput(self.classifier(self.dropout(pooled)), None)  # (B, C)


class TrcglHead(Head):
    """The head of TRCGL-Net (arXiv 2607.00975, Figure 1).

        l = l_gap + λ · l_spatial + μ · l_lab

    The global and the spatial logit share W and b. γ, λ and μ are constants, or learned where the recipe says
    `learn_gates`; at 0 the module is switched off and the head is the linear one.
    """

    def __init__(
        self, width: int, findings: int, recipe: ModelRecipe, adjacency: Float[Tensor, "findings findings"]
    ) -> None:
        super().__init__(width, findings, recipe, adjacency)
        gates = {
            "reweighting": recipe.reweighting_gate,
            "attention": recipe.attention_gate,
            "graph": recipe.graph_gate,
        } | dict.fromkeys(recipe.switched_off, 0.0)
        learn = {name: recipe.learn_gates and name not in recipe.switched_off for name in gates}
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = _classifier(width, findings)
        self.reweight = ChannelReweighting(
            width, recipe.reduction, gates["reweighting"], learn_gate=learn["reweighting"]
        )
        self.attend = ClassAttention(width, findings, recipe.attention_temperature)
        self.graph = LabelGraph(width, recipe.label_embedding, adjacency)
        self.attention_gate = nn.Parameter(torch.tensor(gates["attention"]), requires_grad=learn["attention"])
        self.graph_gate = nn.Parameter(torch.tensor(gates["graph"]), requires_grad=learn["graph"])

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and one attention map per finding."""
        pooled = feature.mean((2, 3))                                       # (B, D)        g
        factors = self.reweight(pooled)                                     # (B, D)        1 + γ s
        per_finding, maps = self.attend(feature * factors[:, :, None, None])  # (B, C, D), (B, C, h, w)
        everywhere = self.classifier(self.dropout(pooled))                  # (B, C)        l_gap
        somewhere = self._own_logit(self.dropout(per_finding))              # (B, C)        l_spatial
        together = self.graph(pooled * factors)                             # (B, C)        l_lab
        logits = everywhere + self.attention_gate * somewhere + self.graph_gate * together
        return HeadOutput(logits, maps)

    def gates(self) -> dict[str, float]:
        """γ, λ and μ."""
        gates = {"reweighting": self.reweight.gate, "attention": self.attention_gate, "graph": self.graph_gate}
        return {name: float(gate.detach()) for name, gate in gates.items()}

    def _own_logit(self, per_finding: Float[Tensor, "batch findings width"]) -> Float[Tensor, "batch findings"]:
        return torch.einsum("bcd,cd->bc", per_finding, self.classifier.weight) + self.classifier.bias


def _classifier(width: int, findings: int) -> nn.Linear:
    layer = nn.Linear(width, findings)
    nn.init.trunc_normal_(layer.weight, std=0.02)  # as ConvNeXt's own classifier
    nn.init.zeros_(layer.bias)
    return layer


HEADS: dict[str, type[Head]] = {"linear": LinearHead, "trcgl": TrcglHead}
"""Name in a recipe (`--model.head`) to class."""
