"""Parts of the heads with transformer layers: label queries, places with their positions, and attention with its maps.

Attention itself has no dropout, so that a map sums to 1 in training too.
"""

import torch
from jaxtyping import Float
from timm.layers import Mlp, build_sincos2d_pos_embed
from torch import Tensor, nn

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import ModelRecipe


def transformer_width(recipe: ModelRecipe) -> int:
    """Width of queries and places, `model.label_embedding`.

    Raises:
        RecipeError: it cannot be divided among the attention heads and the four parts of a position.
    """
    width, heads = recipe.label_embedding, recipe.attention_heads
    if width % heads or width % 4:
        raise RecipeError(
            f"model.label_embedding is {width}; {recipe.head} needs a multiple of 4 and of model.attention_heads "
            f"({heads})."
        )
    return width


class LabelQueries(nn.Module):
    """One learnable query per finding, or per group of findings.

        Q = E         E (Q, width) starts at random
        Q = E W       E (Q, T) starts at the vectors of a text model, scaled to variance 1 as random ones have

    Args:
        queries: number of queries Q.
        recipe: the model's settings; E keeps its start where `learn_embeddings` is off.
        vectors: text vectors (Q, T) of length 1.
    """

    def __init__(self, queries: int, recipe: ModelRecipe, vectors: Float[Tensor, "queries text"] | None) -> None:
        super().__init__()
        width = recipe.label_embedding
        start = torch.randn(queries, width) if vectors is None else vectors * vectors.shape[1] ** 0.5
        self.embeddings = nn.Parameter(start, requires_grad=recipe.learn_embeddings)
        self.adapt = nn.Identity() if vectors is None else nn.Linear(start.shape[1], width, bias=False)

    def forward(self, feature: Float[Tensor, "batch channels height breadth"]) -> Float[Tensor, "batch queries width"]:
        """The same queries for every image of a feature map."""
        return self.adapt(self.embeddings).expand(feature.shape[0], -1, -1)


class Places(nn.Module):
    """The feature map as a sequence of places: P = W F + b, with sine and cosine positions beside it.

    Args:
        channels: D of the feature map.
        width: of a place.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, width)

    def forward(
        self, feature: Float[Tensor, "batch channels height breadth"]
    ) -> tuple[Float[Tensor, "batch places width"], Float[Tensor, "places width"]]:
        """Places without positions, row by row; and their positions."""
        places = self.embed(feature.flatten(2).transpose(1, 2))  # (B, hw, E)
        height, breadth = feature.shape[-2:]
        positions = build_sincos2d_pos_embed(
            [height, breadth], self.embed.out_features, device=places.device, dtype=places.dtype
        )
        return places, positions


class SelfAttention(nn.Module):
    """Queries among themselves, the first sub-layer of a transformer decoder layer (Vaswani et al. 2017).

    Q' = norm(Q + attention(Q, Q, Q))
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Float[Tensor, "batch queries width"]) -> Float[Tensor, "batch queries width"]:
        """Q'."""
        mixed, _ = self.attend(queries, queries, queries, need_weights=False)
        return self.norm(queries + self.dropout(mixed))


class CrossAttention(nn.Module):
    """Queries read places, the other two sub-layers of a transformer decoder layer (Vaswani et al. 2017).

    Q'  = norm(Q + attention(Q, K, V))
    Q'' = norm(Q' + W2 relu(W1 Q'))           hidden layer four times as wide
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed = Mlp(width, 4 * width, act_layer=nn.ReLU, drop=dropout)
        self.norm_read = nn.LayerNorm(width)
        self.norm_fed = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Float[Tensor, "batch queries width"],
        keys: Float[Tensor, "batch places width"],
        values: Float[Tensor, "batch places width"],
    ) -> tuple[Float[Tensor, "batch queries width"], Float[Tensor, "batch queries places"]]:
        """Q'', and the attention of each query over the places, its mean over heads."""
        read, attention = self.attend(queries, keys, values)   # (B, Q, E), (B, Q, hw)
        queries = self.norm_read(queries + self.dropout(read))
        return self.norm_fed(queries + self.feed(queries)), attention.float()


class Block(nn.Module):
    """A block of a vision transformer (Dosovitskiy et al. 2021) that also says where each token looked.

    X'  = X + attention(norm X)
    X'' = X' + W2 gelu(W1 norm X')            hidden layer four times as wide
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attend = nn.LayerNorm(width)
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = Mlp(width, 4 * width, drop=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "batch tokens width"]
    ) -> tuple[Float[Tensor, "batch tokens width"], Float[Tensor, "batch tokens tokens"]]:
        """X'', and the attention of each token over all, its mean over heads."""
        normed = self.norm_attend(tokens)
        mixed, attention = self.attend(normed, normed, normed)  # (B, T, E), (B, T, T)
        tokens = tokens + self.dropout(mixed)
        return tokens + self.feed(self.norm_feed(tokens)), attention.float()
