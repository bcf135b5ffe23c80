"""CSRA: class-specific residual attention."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier
from trcgl.model.label_graph import Labels

TEMPERATURES: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (1.0, math.inf),
    4: (1.0, 2.0, 4.0, math.inf),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, math.inf),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.inf),
}
"""Number of heads to the published temperature T of each head; infinity (99 in the paper) is max pooling."""


class CsraHead(Head):
    """Class-specific residual attention (Zhu & Wu, ICCV 2021, section 3): average pooling plus attention.

        s_j  = m_c · F_j / ‖m_c‖                   score of finding c at place j
        A_j  = softmax_j(T s_j)
        l    = Σ_heads (mean_j s_j + λ Σ_j A_j s_j)

    Each of `model.attention_heads` heads has its own classifiers m and temperature T; λ is `model.csra_gate`. The
    map of a finding is the mean of its A over heads. There is no bias. Unit-length classifiers are those of the
    authors' code (Kevinz-code/CSRA); `model.head_version` 0.2 has m as it is, and λ = `model.attention_gate`.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        if recipe.attention_heads not in TEMPERATURES:
            raise RecipeError(
                f"model.attention_heads is {recipe.attention_heads}; csra has {', '.join(map(str, TEMPERATURES))}."
            )
        self.temperatures = TEMPERATURES[recipe.attention_heads]
        self.dropout = nn.Dropout(recipe.dropout)
        classifiers = (linear_classifier(width, labels.findings, bias=False) for _ in self.temperatures)
        self.classifiers = nn.ModuleList(classifiers)
        self.unit_length = recipe.head_version == "official"
        gate = recipe.csra_gate if self.unit_length else recipe.attention_gate
        self.attention_gate = nn.Parameter(torch.tensor(gate), requires_grad=recipe.learn_gates)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and attention maps, averaged over heads."""
        places = self.dropout(feature.flatten(2).transpose(1, 2))              # (B, hw, D)
        logits, maps = [], []
        for classifier, temperature in zip(self.classifiers, self.temperatures, strict=True):
            scores = classifier(places).transpose(1, 2).float()                # (B, C, hw)
            if self.unit_length:
                length = classifier.get_parameter("weight").float().norm(dim=1)    # (C,)
                scores = scores / length[:, None]
            if math.isinf(temperature):
                attention = one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)
            else:
                attention = torch.softmax(temperature * scores, dim=-1)        # (B, C, hw)
            logits.append(scores.mean(-1) + self.attention_gate * (attention * scores).sum(-1))
            maps.append(attention)
        shared = torch.stack(maps).mean(0).unflatten(-1, feature.shape[-2:])   # (B, C, h, w)
        return HeadOutput(torch.stack(logits).sum(0), shared)

    def gates(self) -> dict[str, float]:
        """λ."""
        return {"attention": float(self.attention_gate.detach())}
