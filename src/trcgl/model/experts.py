"""Three experts over one backbone, for head, medium and tail findings, whose scores are averaged."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from trcgl.dataset.labels import GROUPS, LabelSpace


class Experts(nn.Module):
    """One classifier each for head, medium and tail findings, in the manner of LTCXNet (Huang et al. 2024).

        l_e = W_e gelu(V_e g) + b_e      expert e scores all findings
        l   = logit(mean_e sigmoid(l_e))

    Expert e minimizes the mean of two losses: over all findings, and over those of its group alone. The hidden layer
    V_e makes it an expert: the rows of a linear classifier share nothing, so that it is all the same to one of them how
    much the others weigh.

    What differs from the original: LTCXNet averages networks that are trained apart, each a ConvNeXt with an
    ML-Decoder. Here the experts share a backbone, which costs one network instead of several and lets them differ less.

    Args:
        width: channels D of the feature map.
        findings: number of findings C.
        dropout: on the hidden layers.
    """

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
    """Which findings an expert is for."""
    return torch.tensor([[space.groups[finding] == group for finding in space.findings] for group in GROUPS])
