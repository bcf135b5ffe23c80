"""Class tokens in a small vision transformer, in the manner of CLARiTy."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.attention import Block, LabelQueries, Places, transformer_width
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier, own_logits
from trcgl.model.label_graph import Labels


class ClarityHead(Head):
    """In the manner of CLARiTy (Statheros et al., arXiv 2512.16700): one class token per finding.

        X   = blocks([class tokens; W F + b + positions])
        l_c = w_c · norm(X_c) + b_c
        A_c = attention of class token c to the places, mean over blocks and heads, scaled to sum 1

    The original is a whole vision transformer; here `model.attention_blocks` blocks of width `model.label_embedding`
    follow any backbone. Background suppression (SegmentCAM), the teacher, the self-supervised initial weights and the
    loss that keeps class tokens orthogonal are left out. Not verified: no code of the authors was found.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        inner, heads = transformer_width(recipe), recipe.attention_heads
        self.places = Places(width, inner)
        self.tokens = LabelQueries(labels.findings, recipe, labels.vectors)
        self.blocks = nn.ModuleList(Block(inner, heads, recipe.dropout) for _ in range(recipe.attention_blocks))
        self.norm = nn.LayerNorm(inner)
        self.classifier = linear_classifier(inner, labels.findings)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and the attention maps of the class tokens."""
        places, positions = self.places(feature)                            # (B, hw, E), (hw, E)
        classes = self.tokens(feature)                                      # (B, C, E)
        findings = classes.shape[1]
        tokens = torch.cat([classes, places + positions], dim=1)            # (B, C + hw, E)
        attentions = []
        for block in self.blocks:
            tokens, attention = block(tokens)                               # (B, C + hw, E), (B, C + hw, C + hw)
            attentions.append(attention[:, :findings, findings:])
        logits = own_logits(self.norm(tokens[:, :findings]), self.classifier)  # (B, C)
        maps = torch.stack(attentions).mean(0)                              # (B, C, hw)
        maps = maps + torch.finfo(maps.dtype).tiny  # no division by 0 for a token that attends to no place
        maps = maps / maps.sum(-1, keepdim=True)                            # (B, C, hw)
        return HeadOutput(logits, maps.unflatten(-1, feature.shape[-2:]))   # (B, C), (B, C, h, w)
