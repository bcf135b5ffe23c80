"""Query2Label: a transformer decoder with one query per finding."""

from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.attention import CrossAttention, LabelQueries, Places, SelfAttention, transformer_width
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier, own_logits
from trcgl.model.label_graph import Labels


class Query2LabelHead(Head):
    """Query2Label (Liu et al., arXiv 2107.10834): label queries in a transformer decoder.

        Q_0 = label embeddings,  P = W F + b
        Q_i = feed-forward, cross-attention(·, P + positions, P) and self-attention of Q_i-1
        l_c = w_c · Q_L,c + b_c

    Self-attention lets findings interact without a graph. The number of layers L is `model.attention_blocks` (2 in the
    paper), of heads `model.attention_heads` (4), and the width `model.label_embedding` (D). The encoder layer over the
    places is left out.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        inner, heads, layers = transformer_width(recipe), recipe.attention_heads, range(recipe.attention_blocks)
        self.places = Places(width, inner)
        self.queries = LabelQueries(labels.findings, recipe, labels.vectors)
        self.among = nn.ModuleList(SelfAttention(inner, heads, recipe.dropout) for _ in layers)
        self.read = nn.ModuleList(CrossAttention(inner, heads, recipe.dropout) for _ in layers)
        self.classifier = linear_classifier(inner, labels.findings)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and the attention maps of the last layer."""
        places, positions = self.places(feature)                     # (B, hw, E), (hw, E)
        queries = self.queries(feature)                              # (B, C, E)
        for among, read in zip(self.among, self.read, strict=True):
            queries, maps = read(among(queries), places + positions, places)  # (B, C, E), (B, C, hw)
        logits = own_logits(queries, self.classifier)                # (B, C)
        return HeadOutput(logits, maps.unflatten(-1, feature.shape[-2:]))
