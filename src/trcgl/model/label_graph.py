"""The label graph: findings that co-occur share what they learn (TRCGL-Net, Figure 1; ML-GCN, CVPR 2019)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from trcgl.core.recipe import ModelRecipe

Pairs = Float[Tensor, "findings findings"]
"""One number per pair of findings."""


@dataclass(frozen=True)
class Labels:
    """What a head knows about the findings when it is built."""

    adjacency: Pairs
    """Normalized label graph Â, from `build_adjacency`; a head without a graph reads only its size."""
    vectors: Float[Tensor, "findings text"] | None = None
    """One text vector per finding; None starts label embeddings at random."""

    @property
    def findings(self) -> int:
        """Number of findings C."""
        return len(self.adjacency)


def build_adjacency(conditional: Pairs, recipe: ModelRecipe) -> Pairs:
    """The graph of `model.graph`; the identity for `identity`, and for `learned`, which the network computes itself.

    `conditional` has P(j|i) in row i, from real training rows only, and 0 where it is unknown.
    """
    if recipe.graph == "symmetric":
        return adjacency(conditional, recipe.graph_threshold, recipe.graph_self_loop)
    if recipe.graph == "ml_gcn":
        return ml_gcn_adjacency(conditional, recipe.graph_threshold, recipe.graph_share)
    return torch.eye(len(conditional))


def adjacency(conditional: Pairs, threshold: float, self_loop: float = 1.0) -> Pairs:
    """Normalized adjacency Â = Dn^-1/2 (A + s I) Dn^-1/2 (Kipf & Welling 2017, equation 2, with s = 1).

    A is the mean of P(j|i) and P(i|j) without its diagonal, and 0 below `threshold`. Every finding has a self-loop of
    weight s = `self_loop` > 0, so that Â is defined for a finding that never occurs and for a graph without edges
    (Â = I). Computed in float64.
    """
    weights = conditional.double()
    weights = (weights + weights.T) / 2
    weights = torch.where(weights >= threshold, weights, 0.0)
    return _normalized(weights.fill_diagonal_(self_loop))


def ml_gcn_adjacency(conditional: Pairs, threshold: float = 0.4, share: float = 0.2) -> Pairs:
    """The directed graph of ML-GCN (Chen et al., CVPR 2019, equations 6 to 8), normalized on both sides.

        A_ij  = 1 where P(j|i) ≥ τ and i ≠ j, else 0
        A'_ij = p · A_ij / Σ_k A_ik,  A'_ii = 1 - p
        Â     = D^-1/2 A' D^-1/2,     D_ii = Σ_k A'_ik

    A finding without neighbors has Â_ii = 1. As in the paper, a finding takes from the findings that it implies. (The
    authors' code divides by column sums and transposes: there it takes from the findings that imply it.) `threshold` is
    τ, and `share` is p, the total weight of the neighbors of a finding. Computed in float64.
    """
    edges = (conditional >= threshold).double().fill_diagonal_(0.0)
    weights = share * edges / edges.sum(dim=1, keepdim=True).clamp(min=1.0)
    return _normalized(weights.fill_diagonal_(1.0 - share))


def _normalized(weights: Tensor) -> Tensor:
    scale = weights.sum(dim=1).rsqrt()
    return (scale[:, None] * weights * scale[None, :]).float()


class LearnedEdges(nn.Module):
    """A learned graph: scaled dot-product attention among the label embeddings.

        Â = (I + softmax_j((E Q) (E K)^T / √d)) / 2

    Half of every row is the self-loop, so that each finding keeps its own embedding.
    """

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(embedding, width, bias=False)
        self.key = nn.Linear(embedding, width, bias=False)

    def forward(self, embeddings: Float[Tensor, "findings embedding"]) -> Float[Tensor, "findings findings"]:
        """Â, whose rows sum to 1."""
        scores = self.query(embeddings) @ self.key(embeddings).T / self.key.out_features**0.5  # (C, C)
        attention = torch.softmax(scores.float(), dim=-1)                                      # (C, C)
        return (torch.eye(len(attention), device=attention.device) + attention) / 2            # (C, C)


class GraphConvolution(nn.Module):
    """Two graph convolutions over label embeddings, as in ML-GCN; subclasses compare the image with Z.

        Z = Â σ(Â E W1) W2               σ: leaky ReLU with slope 0.2, or ReLU; then dropout

    E starts at random with width `label_embedding`, or at the text vectors with their width; W1 maps to the hidden
    width `label_embedding`. Â is a buffer, which is saved with the weights, or `LearnedEdges` if `model.graph` is
    `learned`.
    """

    adjacency: Tensor

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__()
        hidden = recipe.label_embedding
        start = torch.randn(labels.findings, hidden) if labels.vectors is None else labels.vectors.clone()
        self.embeddings = nn.Parameter(start, requires_grad=recipe.learn_embeddings)
        self.first = nn.Linear(start.shape[1], hidden, bias=False)
        self.second = nn.Linear(hidden, width, bias=False)
        self.activation = nn.ReLU() if recipe.graph_activation == "relu" else nn.LeakyReLU(0.2)
        self.dropout = nn.Dropout(recipe.graph_dropout)
        self.edges = LearnedEdges(start.shape[1], hidden) if recipe.graph == "learned" else None
        if self.edges is None:
            self.register_buffer("adjacency", labels.adjacency.clone())

    def label_features(self) -> Float[Tensor, "findings width"]:
        """Z."""
        graph = self.adjacency if self.edges is None else self.edges(self.embeddings)  # (C, C)
        hidden = graph @ self.first(self.embeddings)              # (C, E)
        hidden = self.dropout(self.activation(hidden))            # (C, E)
        return graph @ self.second(hidden)                        # (C, D)


class LabelGraph(GraphConvolution):
    """Logits from the cosine between the image and the label features (TRCGL-Net).

        l_lab = cosine(P mean_hw F', Z) · scale + bias

    The scale is one number, learned from 10 or fixed at `cosine_scale`; the bias (one per finding) is learned from 0.
    Random label embeddings have the standard deviation `embedding_std`.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        if labels.vectors is None:
            with torch.no_grad():
                self.embeddings.mul_(recipe.embedding_std)
        self.project = nn.Linear(width, width, bias=False)
        fixed = recipe.cosine_scale
        self.scale = nn.Parameter(torch.tensor(10.0 if fixed is None else fixed), requires_grad=fixed is None)
        self.bias = nn.Parameter(torch.zeros(labels.findings))

    def forward(self, pooled: Float[Tensor, "batch width"]) -> Float[Tensor, "batch findings"]:
        """Logits l_lab from the reweighted pooled feature; the cosine of a zero vector is 0."""
        image = functional.normalize(self.project(pooled).float(), dim=-1, eps=1e-6)   # (B, D)
        label = functional.normalize(self.label_features().float(), dim=-1, eps=1e-6)  # (C, D)
        return image @ label.T * self.scale + self.bias                                # (B, C)


class GraphClassifiers(GraphConvolution):
    """Classifiers generated by the graph: the logits are x Z^T (ML-GCN, equation 4), without a bias.

    Random label embeddings are scaled to length 1, the length of text vectors, so that the first logits are small.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        with torch.no_grad():
            self.embeddings.copy_(functional.normalize(self.embeddings, dim=-1))

    def forward(self, pooled: Float[Tensor, "batch width"]) -> Float[Tensor, "batch findings"]:
        """Logits of pooled features x."""
        return pooled @ self.label_features().T                   # (B, C)
