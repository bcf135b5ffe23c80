"""Query2Label: a transformer decoder with one query per finding."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.attention import (
    CrossAttention,
    LabelQueries,
    Places,
    SelfAttention,
    Tokens,
    normalized_positions,
    transformer_width,
)
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier, own_logits
from trcgl.model.label_graph import Labels


class Query2LabelHead(Head):
    """Query2Label (Liu et al., arXiv 2107.10834): label queries in a transformer decoder.

        P   = encoder layers of W F + b, which add the positions to queries and keys
        T_0 = 0
        T_i = feed-forward and cross-attention(T_i-1 + Q, P + positions, P)
        l_c = w_c · norm(T_L)_c + b_c

    Q are the label embeddings. This is the authors' code (SlongLiu/query2labels) with the arguments of its training
    command: no self-attention among the queries, normalized positions, `model.encoder_blocks` 1,
    `model.attention_blocks` 2, `model.attention_heads` 4 and `model.decoder_dropout` 0.1. The width is
    `model.label_embedding` (there that of the backbone, 2,048, without W).

    `model.head_version` 0.2 is a decoder without an encoder: T_0 = Q, self-attention among the queries in every layer,
    no norm before the classifier, positions that are not normalized, and dropout of `model.dropout` in the layers.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        inner, heads, layers = transformer_width(recipe), recipe.attention_heads, range(recipe.attention_blocks)
        self.official = recipe.head_version == "official"
        self.places = Places(width, inner)
        self.queries = LabelQueries(labels.findings, recipe, labels.vectors)
        if self.official:
            rates = recipe.decoder_dropout, recipe.decoder_dropout
            encoder = (CrossAttention(inner, heads, *rates) for _ in range(recipe.encoder_blocks))
            self.encoder = nn.ModuleList(encoder)
            self.read = nn.ModuleList(CrossAttention(inner, heads, *rates) for _ in layers)
            self.norm = nn.LayerNorm(inner)
            self.classifier = nn.Linear(inner, labels.findings)
            for weight in [*self.encoder.parameters(), *self.read.parameters()]:
                if weight.ndim > 1:
                    nn.init.xavier_uniform_(weight)
        else:
            self.among = nn.ModuleList(SelfAttention(inner, heads, recipe.dropout) for _ in layers)
            self.read = nn.ModuleList(CrossAttention(inner, heads, recipe.dropout) for _ in layers)
            self.classifier = linear_classifier(inner, labels.findings)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and the attention maps of the last layer."""
        read, maps = self._official(feature) if self.official else self._of_0_2(feature)
        logits = own_logits(read, self.classifier)                   # (B, C)
        return HeadOutput(logits, maps.unflatten(-1, feature.shape[-2:]))

    def _official(self, feature: Tensor) -> tuple[Tokens, Tensor]:
        places, _ = self.places(feature)                             # (B, hw, E)
        positions = normalized_positions(places, *feature.shape[-2:])  # (hw, E)
        for layer in self.encoder:
            places, _ = layer(places, places + positions, places, added=positions)
        queries = self.queries(feature)                              # (B, C, E)
        read, keys = torch.zeros_like(queries), places + positions
        for layer in self.read:
            read, maps = layer(read, keys, places, added=queries)    # (B, C, E), (B, C, hw)
        return self.norm(read), maps

    def _of_0_2(self, feature: Tensor) -> tuple[Tokens, Tensor]:
        places, positions = self.places(feature)                     # (B, hw, E), (hw, E)
        queries = self.queries(feature)                              # (B, C, E)
        for among, read in zip(self.among, self.read, strict=True):
            queries, maps = read(among(queries), places + positions, places)  # (B, C, E), (B, C, hw)
        return queries, maps
