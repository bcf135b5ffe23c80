"""Attention layers that several heads share; each also returns its attention map.

A *place* is one spatial position of the feature map.
"""

import math

import torch
from jaxtyping import Float
from timm.layers import Mlp, build_sincos2d_pos_embed
from torch import Tensor, nn

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import ModelRecipe

Feature = Float[Tensor, "batch width height breadth"]
Tokens = Float[Tensor, "batch tokens width"]
"""A vector for each finding, query or class token."""
Keys = Float[Tensor, "batch places width"]


class ClassAttention(nn.Module):
    """Class-aware attention: one spatial map per finding (TRCGL-Net, Figure 1).

    A   = softmax_hw(V F' / τ)       one map per finding, which sums to 1; a smaller τ is sharper
    f_c = Σ_hw A_c F'
    """

    def __init__(self, width: int, findings: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.query = nn.Linear(width, findings, bias=False)  # V; a bias would cancel in the softmax
        nn.init.normal_(self.query.weight, std=0.01)  # nearly uniform maps at the start
        self.temperature = temperature

    def forward(self, feature: Feature) -> tuple[Tokens, Float[Tensor, "batch tokens height breadth"]]:
        """Feature f_c and attention map A_c of each finding."""
        flat = feature.flatten(2)                                             # (B, D, hw)
        scores = torch.einsum("cd,bdn->bcn", self.query.weight, flat)         # (B, C, hw)
        maps = torch.softmax(scores.float() / self.temperature, dim=-1)       # (B, C, hw), sums to 1
        per_finding = torch.bmm(maps.to(flat.dtype), flat.transpose(1, 2))    # (B, C, D)
        return per_finding, maps.unflatten(-1, feature.shape[-2:])


def transformer_width(recipe: ModelRecipe) -> int:
    """Width of queries and places, `model.label_embedding`.

    Raises:
        RecipeError: it is not divisible by 4 (parts of a position embedding) and by `model.attention_heads`.
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
    Q = E W       E (Q, T) starts at text vectors of length 1, scaled to variance 1 like random embeddings
    """

    def __init__(self, queries: int, recipe: ModelRecipe, vectors: Float[Tensor, "queries text"] | None) -> None:
        super().__init__()
        width = recipe.label_embedding
        start = torch.randn(queries, width) if vectors is None else vectors * vectors.shape[1] ** 0.5
        self.embeddings = nn.Parameter(start, requires_grad=recipe.learn_embeddings)
        self.adapt = nn.Identity() if vectors is None else nn.Linear(start.shape[1], width, bias=False)

    def forward(self, feature: Float[Tensor, "batch channels height breadth"]) -> Float[Tensor, "batch queries width"]:
        """The same queries for every image of the batch."""
        return self.adapt(self.embeddings).expand(feature.shape[0], -1, -1)


class Places(nn.Module):
    """The feature map as a sequence of places, P = W F + b, and their sine-cosine position embeddings."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, width)

    def forward(
        self, feature: Float[Tensor, "batch channels height breadth"]
    ) -> tuple[Float[Tensor, "batch places width"], Float[Tensor, "places width"]]:
        """Embedded cells of the feature map, row by row, and their position embeddings, which are not added yet."""
        places = self.embed(feature.flatten(2).transpose(1, 2))  # (B, hw, E)
        height, breadth = feature.shape[-2:]
        positions = build_sincos2d_pos_embed(
            [height, breadth], self.embed.out_features, device=places.device, dtype=places.dtype
        )
        return places, positions


def normalized_positions(places: Keys, height: int, breadth: int) -> Float[Tensor, "places width"]:
    """Sine-cosine embeddings of rows and columns that are numbered up to 2π over the feature map, whatever its size.

    Source: DETR (Carion et al. 2020), the authors' code with `normalize`.
    """
    quarter = places.shape[-1] // 4
    frequency = 10_000 ** (-torch.arange(quarter, device=places.device) / quarter)  # (E/4,)
    sides = []
    for side in (height, breadth):
        angle = torch.arange(1, side + 1, device=places.device) * (2 * math.pi / (side + 1e-6))
        phase = angle[:, None] * frequency                                # (side, E/4)
        sides.append(torch.stack([phase.sin(), phase.cos()], 2).flatten(1))   # (side, E/2)
    rows, columns = sides
    grid = [rows[:, None].expand(-1, breadth, -1), columns[None].expand(height, -1, -1)]
    return torch.cat(grid, 2).flatten(0, 1).to(places.dtype)              # (hw, E)


class SelfAttention(nn.Module):
    """Self-attention of the queries, the first sub-layer of a transformer decoder layer (Vaswani et al. 2017).

    Q' = norm(Q + attention(Q, Q, Q))
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tokens) -> Tokens:
        """Q'."""
        mixed, _ = self.attend(queries, queries, queries, need_weights=False)
        return self.norm(queries + self.dropout(mixed))


class CrossAttention(nn.Module):
    """Attention and feed-forward, sub-layers of a transformer layer (Vaswani et al. 2017).

    Q'  = norm(Q + attention(Q + added, K, V))
    Q'' = norm(Q' + W2 relu(W1 Q'))           hidden layer four times as wide

    With Q of places, and K and V of the same places, it is an encoder layer. `attention_dropout` is that of attention
    weights; in training, maps then no longer sum to 1.
    """

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, heads, dropout=attention_dropout, batch_first=True)
        self.feed = Mlp(width, 4 * width, act_layer=nn.ReLU, drop=dropout)
        self.norm_read = nn.LayerNorm(width)
        self.norm_fed = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Tokens, keys: Keys, values: Keys, added: Tensor | None = None
    ) -> tuple[Tokens, Float[Tensor, "batch tokens places"]]:
        """Q'', and the attention of each query to the places, averaged over heads."""
        asking = queries if added is None else queries + added
        read, attention = self.attend(asking, keys, values)    # (B, Q, E), (B, Q, hw)
        queries = self.norm_read(queries + self.dropout(read))
        return self.norm_fed(queries + self.feed(queries)), attention.float()


class Block(nn.Module):
    """A block of a vision transformer (Dosovitskiy et al. 2021) that also returns its attention.

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

    def forward(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch tokens tokens"]]:
        """X'', and the attention of each token to all tokens, averaged over heads."""
        normed = self.norm_attend(tokens)
        mixed, attention = self.attend(normed, normed, normed)  # (B, T, E), (B, T, T)
        tokens = tokens + self.dropout(mixed)
        return tokens + self.feed(self.norm_feed(tokens)), attention.float()
