"""ML-Decoder: queries of findings, or of groups of findings, read the feature map once."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.attention import CrossAttention, LabelQueries, transformer_width
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier, own_logits
from trcgl.model.label_graph import Labels

MOST_QUERIES = 100
"""Number of queries of ML-Decoder for more findings than that, unless `model.queries` is set."""


class MlDecoderHead(Head):
    """ML-Decoder (Ridnik et al., WACV 2023): one cross-attention layer without self-attention.

        P   = relu(W F + b)                          places
        R   = cross-attention and feed-forward of norm(Q) over P
        l_c = w_c · R_k(c) + b_c                     k(c) = c // g, the group fully-connected layer

    With `model.queries` below C, g = ceil(C / queries) consecutive findings share a query and its map; a query without
    findings is left out. Unset, every finding has its own up to 100, as in the authors' code
    (Alibaba-MIIL/ML_Decoder). The text vector of a group is the mean over its findings. Dropout of
    `model.decoder_dropout` applies to the queries, the attention weights and the outputs of the layers.

    In the paper, queries keep their random initial values (`model.learn_embeddings` off), the width is 768, the
    feed-forward layer 2,048 and there are 8 heads; here the width is `model.label_embedding`, the feed-forward layer
    four times as wide, and the number of heads `model.attention_heads`. `model.head_version` 0.2 has one query per
    finding, dropout of `model.dropout` in the layers alone, and smaller initial weights of the classifier.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        inner, findings = transformer_width(recipe), labels.findings
        official = recipe.head_version == "official"
        queries = min(recipe.queries or (MOST_QUERIES if official else findings), findings)
        size = -(-findings // queries)
        self.group_of = [finding // size for finding in range(findings)]
        self.embed = nn.Linear(width, inner)
        self.queries = LabelQueries(self.group_of[-1] + 1, recipe, self._group_vectors(labels.vectors))
        self.dropout = nn.Dropout(recipe.decoder_dropout) if official else None
        self.norm = nn.LayerNorm(inner)
        rates = (recipe.decoder_dropout, recipe.decoder_dropout) if official else (recipe.dropout, 0.0)
        self.read = CrossAttention(inner, recipe.attention_heads, *rates)
        self.classifier = linear_classifier(inner, findings)
        if official:  # Xavier's for the tensor (queries, width, findings of a query) of the authors' code
            nn.init.normal_(self.classifier.weight, std=(2 / (size * (queries + inner))) ** 0.5)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and attention maps, which are equal for the findings of a group."""
        places = self.embed(feature.flatten(2).transpose(1, 2)).relu()     # (B, hw, E)
        queries = self.queries(feature)                                    # (B, Q, E)
        if self.dropout is not None:
            queries = queries + self.dropout(queries)
        read, maps = self.read(self.norm(queries), places, places)         # (B, Q, E), (B, Q, hw)
        logits = own_logits(read[:, self.group_of], self.classifier)       # (B, C)
        maps = maps[:, self.group_of].unflatten(-1, feature.shape[-2:])    # (B, C, h, w)
        return HeadOutput(logits, maps)

    def _group_vectors(self, vectors: Float[Tensor, "findings text"] | None) -> Float[Tensor, "queries text"] | None:
        if vectors is None:
            return None
        groups = torch.tensor(self.group_of)
        return torch.stack([vectors[groups == group].mean(0) for group in groups.unique()])
