"""Any timm model as a backbone: an image in, a feature map (B, D, h, w) out; and its initial weights."""

import difflib
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models import group_parameters
from torch import Tensor, nn

from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.recipe import ModelRecipe
from trcgl.model import eva_x  # noqa: F401 - registers its models with timm
from trcgl.model.hub import first_line
from trcgl.model.starts import Loaded, load, open_start

_CANDIDATES = {"output_stride": (8, 16, 32), "patch_size": (1, 2, 4, 8, 14, 16, 32), "drop_path_rate": (0.1,)}
_UNSUPPORTED = (TypeError, AssertionError, ValueError, NotImplementedError)  # what timm raises for an option


class Backbone(nn.Module):
    """Convert the three output layouts of timm to one.

    Convolutional models return (B, D, h, w), Swin-like models (B, h, w, D), and ViT-like models (B, prefix + h w, D),
    whose prefix tokens (class, registers) are dropped. `body` is a timm model without pooling and classifier. `loaded`
    describes the file or folder that its initial weights came from.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.width: int = getattr(body, "head_hidden_size", None) or body.num_features  # type: ignore[assignment]
        self.channels_last = str(getattr(body, "output_fmt", "")).endswith("NHWC")
        self.prefix: int = getattr(body, "num_prefix_tokens", 0)
        self.loaded: Loaded | None = None

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features rows columns"]:
        """The feature map."""
        feature = self.body(image)
        if feature.ndim == 3:                                            # (B, prefix + hw, D)
            tokens = feature[:, self.prefix :].transpose(1, 2)           # (B, D, hw)
            return tokens.unflatten(2, (round(tokens.shape[2] ** 0.5), -1))
        return feature.permute(0, 3, 1, 2) if self.channels_last else feature


def create_backbone(recipe: ModelRecipe, *, load_weights: bool) -> Backbone:
    """Build the backbone of a recipe, with its initial weights if `load_weights` is set.

    Raises:
        RecipeError: timm has no such model, the model has no feature map, or it does not support an option; the
            message lists what it supports.
        CheckpointError: the initial weights cannot be loaded.
    """
    wanted = {
        "output_stride": recipe.output_stride,
        "patch_size": recipe.patch_size,
        "drop_path_rate": recipe.drop_path or None,
    }
    options: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    try:
        known = timm.get_pretrained_cfg(recipe.backbone, allow_unregistered=False)
    except RuntimeError as error:
        close = difflib.get_close_matches(recipe.backbone, timm.list_models() + timm.list_pretrained(), n=3)
        hint = f"Did you mean {', '.join(close)}?" if close else "`timm.list_models()` lists them."
        raise RecipeError(f"model.backbone: timm has no model {recipe.backbone!r}. {hint}") from error
    fixed: dict[str, Any] = {"img_size": recipe.image_size} if known and known.fixed_input_size else {}
    create = partial(timm.create_model, recipe.backbone, num_classes=0, global_pool="", **options, **fixed)
    try:
        body = create()
    except _UNSUPPORTED as error:
        raise RecipeError(_unsupported(recipe.backbone, options, error)) from error
    if load_weights and recipe.weights == "hub":
        try:
            body = create(pretrained=True)
        except Exception as error:  # the hub client has dozens of exception types for "no network" and "no such file"
            raise CheckpointError(
                f"timm's weights for {recipe.backbone} cannot be loaded: {first_line(error)}. Offline: give "
                "--model.weights FILE (a model.safetensors downloaded elsewhere), or none. Online: check that the name "
                "has weights (`timm.list_models(pretrained=True)`), and that output_stride or patch_size do not change "
                "their shape."
            ) from error
    backbone = Backbone(body)
    if load_weights and recipe.weights not in ("hub", "none"):
        backbone.loaded = load(body, open_start(Path(recipe.weights)), recipe.backbone)
    return backbone


def take_final_norm(backbone: Backbone) -> nn.Module:
    """Remove the norm that a timm head applies after pooling (ConvNeXt) and return it; the identity if there is none.

    The network applies it to the feature map instead, before the head.
    """
    head = getattr(backbone.body, "head", None)
    norm = getattr(head, "norm", None)
    if not isinstance(head, nn.Module) or not isinstance(norm, nn.Module):
        return nn.Identity()
    head.norm = nn.Identity()
    return norm


def freeze_stages(backbone: Backbone, stages: int) -> None:
    """Freeze the stem and the first `stages` stages: their weights, and the running statistics of their norms.

    Stages are the coarse groups of timm's `group_matcher`; the classifier is not one of them.

    Raises:
        RecipeError: the backbone has fewer stages, or timm defines none for it.
    """
    body: Any = backbone.body
    if not hasattr(body, "group_matcher"):
        raise RecipeError("train.frozen_stages: timm defines no stages for this backbone. Leave it unset.")
    groups = list(group_parameters(body, body.group_matcher(coarse=True)).values())
    if stages > len(groups) - 1:
        raise RecipeError(f"train.frozen_stages is {stages}, but the backbone has {len(groups) - 1} stages.")
    frozen = {name for group in groups[: stages + 1] for name in group}
    for name, parameter in body.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    for name, module in body.named_modules():
        parameters = [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
        if parameters and frozen.issuperset(parameters):
            module.eval()


def checkpoint_gradients(backbone: Backbone) -> None:
    """Compute activations again in the backward pass instead of storing them.

    Raises:
        RecipeError: timm does not offer it for this backbone.
    """
    try:
        backbone.body.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise RecipeError(
            "train.gradient_checkpointing: timm does not offer it for this backbone. Leave it out, and lower "
            "train.batch_size instead."
        ) from error


def _unsupported(backbone: str, options: dict[str, Any], error: Exception) -> str:
    if not options:
        return f"model.backbone {backbone} has no feature map in timm ({error}). Choose another backbone."
    supported = {
        name: [str(value) for value in values if _builds(backbone, {name: value})]
        for name, values in _CANDIDATES.items()
    }
    text = "; ".join(f"{name} {', '.join(values) or 'not at all'}" for name, values in supported.items())
    asked = ", ".join(f"{name} {value}" for name, value in options.items())
    return f"model.backbone {backbone} cannot be built with {asked} ({error}). It supports: {text}."


def _builds(backbone: str, options: dict[str, Any]) -> bool:
    try:
        with torch.device("meta"):
            timm.create_model(backbone, num_classes=0, global_pool="", **options)
    except (*_UNSUPPORTED, RuntimeError):
        return False
    return True


def license_of(recipe: ModelRecipe, loaded: Loaded | None = None) -> str:
    """License of the initial weights: of timm, or as stated beside a file; `unknown`, or `none` without weights."""
    if recipe.weights == "none":
        return "none"
    if loaded:
        return loaded.start.license
    known = timm.get_pretrained_cfg(recipe.backbone) if recipe.weights == "hub" else None
    return (known.license if known else None) or "unknown"
