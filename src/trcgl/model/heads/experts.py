"""Experts for head, medium and tail findings."""

from jaxtyping import Float
from torch import Tensor

from trcgl.core.recipe import ModelRecipe
from trcgl.model.experts import Experts, averaged
from trcgl.model.heads.contract import Head, HeadOutput
from trcgl.model.label_graph import Labels


class ExpertsHead(Head):
    """Global average pooling and three `Experts`, whose probabilities are averaged."""

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        self.experts = Experts(width, labels.findings, recipe.dropout)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Averaged logits and those of each expert; no maps."""
        experts = self.experts(feature.mean((2, 3)))                  # (3, B, C)
        return HeadOutput(averaged(experts), None, experts)           # (B, C)
