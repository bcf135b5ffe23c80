"""The head of TRCGL-Net."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.channel_reweighting import ChannelReweighting
from trcgl.model.class_attention import ClassAttention
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier, own_logits
from trcgl.model.label_graph import LabelGraph, Labels


class TrcglHead(Head):
    """The head of TRCGL-Net (arXiv 2607.00975, Figure 1).

        l = l_gap + λ · l_spatial + μ · l_lab

    The global and the spatial logit share W and b. γ, λ and μ are constants, or learned where the recipe says
    `learn_gates`; at 0 the module is switched off and the head is the linear one.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        gates = {
            "reweighting": recipe.reweighting_gate,
            "attention": recipe.attention_gate,
            "graph": recipe.graph_gate,
        } | dict.fromkeys(recipe.switched_off, 0.0)
        learn = {name: recipe.learn_gates and name not in recipe.switched_off for name in gates}
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = linear_classifier(width, labels.findings)
        self.reweight = ChannelReweighting(
            width, recipe.reduction, gates["reweighting"], learn_gate=learn["reweighting"]
        )
        self.attend = ClassAttention(width, labels.findings, recipe.attention_temperature)
        self.graph = LabelGraph(width, recipe, labels)
        self.attention_gate = nn.Parameter(torch.tensor(gates["attention"]), requires_grad=learn["attention"])
        self.graph_gate = nn.Parameter(torch.tensor(gates["graph"]), requires_grad=learn["graph"])

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and one attention map per finding."""
        pooled = feature.mean((2, 3))                                         # (B, D)        g
        factors = self.reweight(pooled)                                       # (B, D)        1 + γ s
        per_finding, maps = self.attend(feature * factors[:, :, None, None])  # (B, C, D), (B, C, h, w)
        everywhere = self.classifier(self.dropout(pooled))                    # (B, C)        l_gap
        somewhere = own_logits(self.dropout(per_finding), self.classifier)    # (B, C)        l_spatial
        together = self.graph(pooled * factors)                               # (B, C)        l_lab
        logits = everywhere + self.attention_gate * somewhere + self.graph_gate * together
        return HeadOutput(logits, maps)

    def gates(self) -> dict[str, float]:
        """γ, λ and μ."""
        gates = {"reweighting": self.reweight.gate, "attention": self.attention_gate, "graph": self.graph_gate}
        return {name: float(gate.detach()) for name, gate in gates.items()}
