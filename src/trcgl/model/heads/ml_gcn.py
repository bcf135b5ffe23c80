"""ML-GCN: classifiers that a label graph generates."""

from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.contract import Head, HeadOutput
from trcgl.model.label_graph import GraphClassifiers, Labels


class MlGcnHead(Head):
    """ML-GCN (Chen et al., CVPR 2019): a graph over the labels generates the classifiers.

        x = max_hw F
        l = x Z^T,   Z = Â σ(Â E W1) W2

    As published with `model.graph` `ml_gcn`, `model.graph_threshold` 0.4, and label embeddings from a text model
    (`model.label_text`) that are not trained (`model.learn_embeddings` off). The published hidden layer is 1,024 wide
    for D = 2,048; here its width is `model.label_embedding`. W1 and W2 start as in the authors' code
    (Megvii-Nanjing/ML-GCN), uniform within 1 / √(output width); in `model.head_version` 0.2, within 1 / √(input width).
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        self.dropout = nn.Dropout(recipe.dropout)
        self.graph = GraphClassifiers(width, recipe, labels)
        if recipe.head_version == "official":
            for layer in (self.graph.first, self.graph.second):
                nn.init.uniform_(layer.weight, -(layer.out_features**-0.5), layer.out_features**-0.5)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits; no maps."""
        pooled = feature.amax((2, 3))                              # (B, D)
        return HeadOutput(self.graph(self.dropout(pooled)), None)  # (B, C)
