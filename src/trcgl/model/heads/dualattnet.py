"""Image-level and fine-grained attention, in the manner of DualAttNet."""

from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.heads.attention import ClassAttention
from trcgl.model.heads.contract import Head, HeadOutput, linear_classifier, own_logits
from trcgl.model.label_graph import Labels


class DualAttNetHead(Head):
    """In the manner of DualAttNet (Xu & Duan, Computers in Biology and Medicine 2024): the sum of two attentions.

        image level    l_img,c  = mean_hw relu(U_c F) · sigmoid(W2 relu(W1 g))_c,   g = mean_hw F
        fine-grained   l_fine,c = W_c (Σ_hw A_c F) + b_c,                           A = softmax_hw(V F / τ)
        logit          l        = l_img + l_fine

    Differences from the original, which is part of a detector's feature pyramid: its fine-grained attention is the
    detector's lesion map scaled to sum 1, here attention is learned from image labels; its image level is a sum over
    places, here a mean, so that the logit does not grow with the map; its batch norm before the first ReLU, which
    cannot normalize a single image with a single place, is left out. The bottleneck is D / `model.reduction` (16 in
    the paper).
    """

    def __init__(self, width: int, recipe: ModelRecipe, labels: Labels) -> None:
        super().__init__(width, recipe, labels)
        bottleneck = max(1, width // recipe.reduction)
        self.dropout = nn.Dropout(recipe.dropout)
        self.everywhere = nn.Conv2d(width, labels.findings, 1)
        self.importance = nn.Sequential(
            nn.Linear(width, bottleneck), nn.ReLU(), nn.Linear(bottleneck, labels.findings), nn.Sigmoid()
        )
        self.attend = ClassAttention(width, labels.findings, recipe.attention_temperature)
        self.classifier = linear_classifier(width, labels.findings)

    def forward(self, feature: Float[Tensor, "batch width height breadth"]) -> HeadOutput:
        """Logits and the fine-grained attention maps."""
        pooled = feature.mean((2, 3))                                    # (B, D)
        evidence = self.everywhere(feature).relu().mean((2, 3))          # (B, C)
        l_img = evidence * self.importance(pooled)                       # (B, C)
        per_finding, maps = self.attend(feature)                         # (B, C, D), (B, C, h, w)
        l_fine = own_logits(self.dropout(per_finding), self.classifier)  # (B, C)
        return HeadOutput(l_img + l_fine, maps)
