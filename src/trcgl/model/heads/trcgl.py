"""The head of TRCGL-Net: channel reweighting, class-aware attention and a label graph, each behind a gate."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.attention import ClassAttention
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier, own_logits
from trcgl.model.label_graph import LabelGraph, Labels


class TrcglHead(Head):
    """The head of TRCGL-Net (arXiv 2607.00975, Figure 1).

        l = l_gap + λ · l_spatial + μ · l_lab

    The global and the spatial logit share W and b. The gates γ, λ and μ are constants, or trained if the recipe sets
    `learn_gates`. With all gates at 0 this is the linear head.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        gates = {name: getattr(recipe, f"{name}_gate") for name in ("reweighting", "attention", "graph")}
        gates |= dict.fromkeys(recipe.switched_off, 0.0)
        learn = {name: recipe.learn_gates and name not in recipe.switched_off for name in gates}
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = linear_classifier(width, labels.findings)
        self.reweight = ChannelReweighting(
            width, recipe.reduction, gates["reweighting"], learn["reweighting"], bias=recipe.reweighting_bias
        )
        self.attend = ClassAttention(width, labels.findings, recipe.attention_temperature)
        self.graph = LabelGraph(width, recipe, labels)
        self.attention_gate = nn.Parameter(torch.tensor(gates["attention"]), requires_grad=learn["attention"])
        self.graph_gate = nn.Parameter(torch.tensor(gates["graph"]), requires_grad=learn["graph"])

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and the class-aware attention maps."""
        pooled = feature.mean((2, 3))                                         # (B, D)        g
        factors = self.reweight(pooled)                                       # (B, D)        1 + γ s
        per_finding, maps = self.attend(feature * factors[:, :, None, None])  # (B, C, D), (B, C, h, w)
        l_gap = self.classifier(self.dropout(pooled))                         # (B, C)
        l_spatial = own_logits(self.dropout(per_finding), self.classifier)    # (B, C)
        l_lab = self.graph(pooled * factors)                                  # (B, C)
        logits = l_gap + self.attention_gate * l_spatial + self.graph_gate * l_lab
        return HeadOutput(logits, maps)

    def gates(self) -> dict[str, float]:
        """γ, λ and μ."""
        gates = {"reweighting": self.reweight.gate, "attention": self.attention_gate, "graph": self.graph_gate}
        return {name: float(gate.detach()) for name, gate in gates.items()}


class ChannelReweighting(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018) with a gate.

        s  = sigmoid(W2 relu(W1 g)),   g = mean_hw F
        F' = F + γ · s ⊙ F = (1 + γ s) ⊙ F

    The bottleneck has D / `reduction` channels, at least one. `gate` is γ, or its initial value if it is learned.
    """

    def __init__(self, width: int, reduction: int, gate: float, learn_gate: bool, *, bias: bool = True) -> None:
        super().__init__()
        hidden = max(width // reduction, 1)
        self.squeeze = nn.Linear(width, hidden, bias=bias)
        self.excite = nn.Linear(hidden, width, bias=bias)
        self.gate = nn.Parameter(torch.tensor(gate), requires_grad=learn_gate)

    def forward(self, pooled: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """Factors 1 + γ s of the channels, from g. The mean of F' is the factors times g."""
        hidden = torch.relu(self.squeeze(pooled))                  # (B, D / r)
        return 1 + self.gate * torch.sigmoid(self.excite(hidden))  # (B, D)
