"""TRCGL-Net (arXiv 2607.00975, Figure 1): a timm backbone, its norm, and a head."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.recipe import ModelRecipe
from trcgl.model.backbone import Backbone, create_backbone, take_final_norm
from trcgl.model.heads import HEADS, HeadOutput
from trcgl.model.label_graph import Labels
from trcgl.model.tensors import pool_to_grid


class TrcglNet(nn.Module):
    """From a radiograph to one logit per finding.

    The gray image is normalized with the channel means and standard deviations of the initial weights, which also
    repeats it to three channels. (A stem summed to one channel would save 1 % of the time, but is exact only if the
    three means agree, because padding is 0 after normalization.)

    Args:
        recipe: settings of the model.
        findings: number of findings C.
        adjacency: normalized label graph Â, from `label_graph.build_adjacency`.
        vectors: text vectors of the findings (C, T), from `label_text.finding_vectors`; None starts label embeddings at
            random.
        load_weights: load the initial weights of the backbone; False if trained weights are loaded next.

    Raises:
        RecipeError: the backbone, one of its options or the head does not exist, or settings contradict each other.
        CheckpointError: the initial weights cannot be loaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        recipe: ModelRecipe,
        findings: int,
        adjacency: Float[Tensor, "findings findings"],
        *,
        vectors: Float[Tensor, "findings text"] | None = None,
        load_weights: bool = True,
    ) -> None:
        super().__init__()
        head = HEADS[recipe.head]  # first: an unknown name is refused before weights are downloaded
        self.backbone = create_backbone(recipe, load_weights=load_weights)
        self.norm = take_final_norm(self.backbone)
        self.head_norm = nn.BatchNorm2d(self.backbone.width) if recipe.head_norm == "batch" else nn.Identity()
        self.head = head(self.backbone.width, recipe, Labels(adjacency, vectors))
        self.feature_grid = recipe.feature_grid
        mean, std = _normalization(self.backbone, recipe)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.to(memory_format=torch.channels_last)  # 1.1 to 1.6 times as fast on CPUs; ConvNeXt alike

    def forward(self, image: Float[Tensor, "batch 1 height width"]) -> HeadOutput:
        """Logits and attention maps of gray images in [0, 1]."""
        return self.from_backbone(self.backbone_features(image))

    def from_backbone(self, feature: Float[Tensor, "batch features rows columns"]) -> HeadOutput:
        """Logits and attention maps of feature maps of `backbone_features`."""
        feature = self.head_norm(feature)        # (B, D, h, w)
        return self.head(feature)                # (B, C), (B, C, h, w)

    def features(self, image: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch features rows columns"]:
        """The feature map that the head receives."""
        return self.head_norm(self.backbone_features(image))

    def backbone_features(
        self, image: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch features rows columns"]:
        """The feature map of the backbone, which does not depend on the weights of the head."""
        image = (image - self.mean) / self.std   # (B, 3, H, W)
        feature = self.backbone(image)           # (B, D, h, w)
        feature = self.norm(feature)             # (B, D, h, w)
        return feature if self.feature_grid is None else pool_to_grid(feature, self.feature_grid)


def _normalization(backbone: Backbone, recipe: ModelRecipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel: of the recipe, else of the initial weights, else of timm's model."""
    config: dict[str, Any] = backbone.body.pretrained_cfg  # type: ignore[assignment]
    known = backbone.loaded.start.normalization if backbone.loaded else None
    mean, std = known or (config["mean"], config["std"])
    if recipe.pixel_mean is not None:
        mean = (recipe.pixel_mean,) * 3
    if recipe.pixel_std is not None:
        std = (recipe.pixel_std,) * 3
    return mean, std
