"""The label graph: findings that occur together share what they learned (TRCGL-Net, Figure 1; ML-GCN, 2019)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from trcgl.core.recipe import ModelRecipe


@dataclass(frozen=True)
class Labels:
    """What a head is told of the findings before it sees an image.

    Args:
        adjacency: normalized label graph Â (C, C), from `build_adjacency`; a head without a graph reads its size alone.
        vectors: one vector per finding (C, T) from a text model; None starts label embeddings at random.
    """

    adjacency: Float[Tensor, "findings findings"]
    vectors: Float[Tensor, "findings text"] | None = None

    @property
    def findings(self) -> int:
        """Number of findings C."""
        return len(self.adjacency)


def build_adjacency(
    conditional: Float[Tensor, "findings findings"], recipe: ModelRecipe
) -> Float[Tensor, "findings findings"]:
    """The graph that `model.graph` asks for; the identity where it is `identity`, and where it is `learned` later.

    Args:
        conditional: P(j|i) in row i, from real training rows only; 0 where it is unknown.
        recipe: the model's settings.
    """
    if recipe.graph == "symmetric":
        return adjacency(conditional, recipe.graph_threshold)
    if recipe.graph == "ml_gcn":
        return ml_gcn_adjacency(conditional, recipe.graph_threshold, recipe.graph_share)
    return torch.eye(len(conditional))


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
    return _normalized(weights.fill_diagonal_(1.0))


def ml_gcn_adjacency(
    conditional: Float[Tensor, "findings findings"], threshold: float = 0.4, share: float = 0.2
) -> Float[Tensor, "findings findings"]:
    """The directed graph of ML-GCN (Chen et al., CVPR 2019, equations 6 to 8), normalized on both sides.

        A_ij  = 1 where P(j|i) ≥ τ and i ≠ j, else 0
        A'_ij = p · A_ij / Σ_k A_ik,  A'_ii = 1 - p
        Â     = D^-1/2 A' D^-1/2,     D_ii = Σ_k A'_ik

    A finding without neighbors has Â_ii = 1. The authors' code divides by the sums of columns and transposes: there
    a finding listens to those that imply it, here, as in the paper, to those that it implies.

    Args:
        conditional: P(j|i) in row i, from real training rows only; 0 where it is unknown.
        threshold: τ.
        share: p, what a finding takes from its neighbors together.

    Returns:
        Matrix in float32, computed in float64; not symmetric.
    """
    edges = (conditional >= threshold).double().fill_diagonal_(0.0)
    weights = share * edges / edges.sum(dim=1, keepdim=True).clamp(min=1.0)
    return _normalized(weights.fill_diagonal_(1.0 - share))


def _normalized(weights: Tensor) -> Tensor:
    scale = weights.sum(dim=1).rsqrt()
    return (scale[:, None] * weights * scale[None, :]).float()


class LearnedEdges(nn.Module):
    """A graph that is learned in place of counted: scaled dot-product attention among the label embeddings.

        Â = (I + softmax_j((E Q) (E K)^T / √d)) / 2

    Half of every row is the self-loop that a counted graph has too, so that no finding loses itself in the others.

    Args:
        embedding: width of the label embeddings E.
        width: d, of queries and keys.
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
    """Pass label embeddings along the graph in two layers, as ML-GCN does; what Z is compared with is the heirs' part.

        Z = Â σ(Â E W1) W2               σ: leaky ReLU with slope 0.2

    E starts at random with width `label_embedding`, or at the vectors of a text model with theirs; W1 leads either to
    the hidden width `label_embedding`. Â is a buffer and therefore saved with the weights, or `LearnedEdges` where
    `model.graph` is `learned`.

    Args:
        width: channels D of the feature map.
        recipe: the model's settings.
        labels: Â and, where there are some, text vectors.
    """

    adjacency: Tensor

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__()
        hidden = recipe.label_embedding
        start = torch.randn(labels.findings, hidden) if labels.vectors is None else labels.vectors.clone()
        self.embeddings = nn.Parameter(start, requires_grad=recipe.learn_embeddings)
        self.first = nn.Linear(start.shape[1], hidden, bias=False)
        self.second = nn.Linear(hidden, width, bias=False)
        self.edges = LearnedEdges(start.shape[1], hidden) if recipe.graph == "learned" else None
        if self.edges is None:
            self.register_buffer("adjacency", labels.adjacency.clone())

    def label_features(self) -> Float[Tensor, "findings width"]:
        """Z, what the graph makes of the label embeddings."""
        graph = self.adjacency if self.edges is None else self.edges(self.embeddings)  # (C, C)
        hidden = graph @ self.first(self.embeddings)              # (C, E)
        hidden = functional.leaky_relu(hidden, 0.2)               # (C, E)
        return graph @ self.second(hidden)                        # (C, D)


class LabelGraph(GraphConvolution):
    """Compare the image with label embeddings that were passed along the graph.

        l_lab = cosine(P mean_hw F', Z) · scale + bias

    The scale (one number, starts at 10) and the bias (one per finding, starts at 0) are learned.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        self.project = nn.Linear(width, width, bias=False)
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.zeros(labels.findings))

    def forward(self, pooled: Float[Tensor, "batch width"]) -> Float[Tensor, "batch findings"]:
        """Logits l_lab from the reweighted global representation; a zero vector has cosine 0 with everything."""
        image = functional.normalize(self.project(pooled).float(), dim=-1, eps=1e-6)   # (B, D)
        label = functional.normalize(self.label_features().float(), dim=-1, eps=1e-6)  # (C, D)
        return image @ label.T * self.scale + self.bias                                # (B, C)


class GraphClassifiers(GraphConvolution):
    """Classifiers that the graph generates: the logits are x Z^T (ML-GCN, equation 4), without a bias.

    Random label embeddings start with length 1, as text vectors have, so that the first logits are small.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        with torch.no_grad():
            self.embeddings.copy_(functional.normalize(self.embeddings, dim=-1))

    def forward(self, pooled: Float[Tensor, "batch width"]) -> Float[Tensor, "batch findings"]:
        """Logits of a pooled feature x."""
        return pooled @ self.label_features().T                   # (B, C)
