"""Three experts over one backbone, for head, medium and tail findings, in the manner of LTCXNet."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from trcgl.core.recipe import ModelRecipe
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.model.heads.contract import Head, HeadOutput
from trcgl.model.label_graph import Labels


class ExpertsHead(Head):
    """Three classifiers whose probabilities are averaged, in the manner of LTCXNet (Huang et al. 2024).

        l_e = W_e gelu(V_e g) + b_e,   g = mean_hw F      expert e scores all findings
        l   = logit(mean_e sigmoid(l_e))

    The loss of expert e is the mean of two: over all findings, and over the findings of its group (head, medium or
    tail). It needs the hidden layer V_e, because rows of a linear classifier share no parameters, so that the weight of
    one finding would not affect another.

    Difference from the original: LTCXNet averages networks that are trained separately, each a ConvNeXt with an
    ML-Decoder. Here the experts share a backbone, which costs one network instead of several and makes them more alike.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        self.experts = Experts(width, labels.findings, recipe.dropout)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Averaged logits and the logits of each expert; no maps."""
        experts = self.experts(feature.mean((2, 3)))                  # (3, B, C)
        return HeadOutput(averaged(experts), None, experts)           # (B, C)


class Experts(nn.Module):
    """One classifier with a hidden layer for each of the groups head, medium and tail."""

    def __init__(self, width: int, findings: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in GROUPS)
        self.classifiers = nn.ModuleList(nn.Linear(width, findings) for _ in GROUPS)
        self.dropout = nn.Dropout(dropout)
        for layer in self.classifiers:
            nn.init.trunc_normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, pooled: Float[Tensor, "batch width"]) -> Float[Tensor, "experts batch findings"]:
        """Logits of each expert."""
        pairs = zip(self.hidden, self.classifiers, strict=True)
        return torch.stack([classify(self.dropout(functional.gelu(hide(pooled)))) for hide, classify in pairs])


def averaged(logits: Float[Tensor, "experts batch findings"]) -> Float[Tensor, "batch findings"]:
    """The logit of the mean probability, exact for logits of any size."""
    logits = logits.float()
    return functional.logsigmoid(logits).logsumexp(0) - functional.logsigmoid(-logits).logsumexp(0)


def own_findings(space: LabelSpace) -> Bool[Tensor, "experts findings"]:
    """Which findings belong to the group of each expert."""
    return torch.tensor([[space.groups[finding] == group for finding in space.findings] for group in GROUPS])
