"""Global average pooling and a linear layer: the baseline of all heads."""

from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier
from trcgl.model.label_graph import Labels


class LinearHead(Head):
    """Global average pooling and a linear layer, timm's default head.

    l = W mean_hw F + b
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = linear_classifier(width, labels.findings)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits; no maps."""
        pooled = feature.mean((2, 3))                                   # (B, D)
        return HeadOutput(self.classifier(self.dropout(pooled)), None)  # (B, C)
