"""A linear classifier plus the scores of a label graph, in the manner of CheXGCN."""

from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier
from trcgl.model.label_graph import GraphClassifiers, Labels


class ChexGcnHead(Head):
    """In the manner of CheXGCN (Chen et al., IEEE JBHI 2020): label-graph scores are added to the image's logits.

        g = mean_hw F
        l = W g + b + g Z^T,   Z = Â σ(Â E W1) W2

    In the original, a graph over word vectors of the findings "adaptively recalibrates" the outputs of an image feature
    embedding. Differences: the recalibration is a sum, `model.graph` chooses the graph, and label embeddings are
    learned unless `model.label_text` names a text model. Not verified: no code of the authors was found.
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = linear_classifier(width, labels.findings)
        self.graph = GraphClassifiers(width, recipe, labels)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits; no maps."""
        pooled = self.dropout(feature.mean((2, 3)))                               # (B, D)
        return HeadOutput(self.classifier(pooled) + self.graph(pooled), None)     # (B, C)
