"""ML-Decoder."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.attention import CrossAttention, LabelQueries, transformer_width
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier, own_logits
from trcgl.model.label_graph import Labels


class MlDecoderHead(Head):
    """ML-Decoder (Ridnik et al., WACV 2023): queries read the places once, without self-attention.

        P   = relu(W F + b)                          places
        R   = cross-attention and feed-forward of the queries over P
        l_c = w_c · R_k(c) + b_c                     k(c) = c // g, the group fully-connected layer

    With Q = `model.queries` below C, g = ceil(C / Q) findings in a row share a query, and so its map; a query that no
    finding would read is left out. Without it every finding has its own. A group's text vector is the mean of its
    findings'. The published queries stay at their random start (`model.learn_embeddings` off), its width is 768, its
    feed-forward layer 2,048 and it has 8 heads; here these are `model.label_embedding`, four times that and
    `model.attention_heads`.

    Raises:
        RecipeError: the width cannot be divided among the heads.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        inner, findings = transformer_width(recipe), labels.findings
        size = -(-findings // min(recipe.queries or findings, findings))
        self.group_of = [finding // size for finding in range(findings)]
        self.embed = nn.Linear(width, inner)
        self.queries = LabelQueries(self.group_of[-1] + 1, recipe, self._of_groups(labels.vectors))
        self.norm = nn.LayerNorm(inner)
        self.read = CrossAttention(inner, recipe.attention_heads, recipe.dropout)
        self.classifier = linear_classifier(inner, findings)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and one attention map per finding, the same for findings of a group."""
        places = self.embed(feature.flatten(2).transpose(1, 2)).relu()     # (B, hw, E)
        queries = self.norm(self.queries(feature))                         # (B, Q, E)
        read, maps = self.read(queries, places, places)                    # (B, Q, E), (B, Q, hw)
        logits = own_logits(read[:, self.group_of], self.classifier)       # (B, C)
        maps = maps[:, self.group_of].unflatten(-1, feature.shape[-2:])    # (B, C, h, w)
        return HeadOutput(logits, maps)

    def _of_groups(self, vectors: Float[Tensor, "findings text"] | None) -> Float[Tensor, "queries text"] | None:
        if vectors is None:
            return None
        groups = torch.tensor(self.group_of)
        return torch.stack([vectors[groups == one].mean(0) for one in range(self.group_of[-1] + 1)])
