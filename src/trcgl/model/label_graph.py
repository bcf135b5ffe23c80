"""The label graph: findings that occur together share what they learned (TRCGL-Net, Figure 1; ML-GCN, 2019)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


def adjacency(conditional: Float[Tensor, "findings findings"], threshold: float) -> Float[Tensor, "findings findings"]:
    """Normalized adjacency Â = Dn^-1/2 (A + I) Dn^-1/2 (Kipf & Welling 2017, equation 2).

    A is the mean of P(j|i) and P(i|j) without its diagonal; below `threshold` it is 0, above it the weight stays.
    Every finding keeps its self-loop, so a finding that never occurs, and an empty graph, are well defined: Â = I.

    Args:
        conditional: P(j|i) in row i, from real training rows only; 0 where it is unknown.
        threshold: smallest weight that counts as an edge.

    Returns:
        Symmetric matrix in float32, computed in float64.
    """
    weights = conditional.double()
    weights = (weights + weights.T) / 2
    weights = torch.where(weights >= threshold, weights, 0.0)
    weights = weights.fill_diagonal_(1.0)
    scale = weights.sum(dim=1).rsqrt()
    return (scale[:, None] * weights * scale[None, :]).float()


class LabelGraph(nn.Module):
    """Compare the image with label embeddings that were passed along the graph.

        Z     = Â σ(Â E W1) W2               σ: leaky ReLU with slope 0.2, as in ML-GCN
        l_lab = cosine(P mean_hw F', Z) · scale + bias

    The scale (one number, starts at 10) and the bias (one per finding, starts at 0) are learned.

    Args:
        width: channels D of the feature map.
        embedding: width of the learnable label embeddings E and of the hidden layer.
        adjacency: Â, kept as a buffer and therefore saved with the weights.
    """

    adjacency: Tensor

    def __init__(self, width: int, embedding: int, adjacency: Float[Tensor, "findings findings"]) -> None:
        super().__init__()
        findings = len(adjacency)
        self.register_buffer("adjacency", adjacency.clone())
        self.embeddings = nn.Parameter(torch.randn(findings, embedding))
        self.first = nn.Linear(embedding, embedding, bias=False)
        self.second = nn.Linear(embedding, width, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.zeros(findings))

    def label_features(self) -> Float[Tensor, "findings width"]:
        """Z, what the graph makes of the label embeddings."""
        hidden = self.adjacency @ self.first(self.embeddings)     # (C, E)
        hidden = functional.leaky_relu(hidden, 0.2)               # (C, E)
        return self.adjacency @ self.second(hidden)               # (C, D)

    def forward(self, pooled: Float[Tensor, "batch width"]) -> Float[Tensor, "batch findings"]:
        """Logits l_lab from the reweighted global representation; a zero vector has cosine 0 with everything."""
        image = functional.normalize(self.project(pooled).float(), dim=-1, eps=1e-6)   # (B, D)
        label = functional.normalize(self.label_features().float(), dim=-1, eps=1e-6)  # (C, D)
        return image @ label.T * self.scale + self.bias                                # (B, C)
