"""Any timm model as a backbone: an image in, a feature map (B, D, h, w) out; and its initial weights."""

import difflib
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from timm.models import group_parameters
from torch import Tensor, nn

from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.recipe import ModelRecipe
from trcgl.model.hub import first_line

_CANDIDATES = {"output_stride": (8, 16, 32), "patch_size": (1, 2, 4, 8, 14, 16, 32), "drop_path_rate": (0.1,)}
_UNSUPPORTED = (TypeError, AssertionError, ValueError, NotImplementedError)  # what timm raises for an option
_PICKLED = {".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl"}
_CLASSIFIERS = ("classifier.", "fc.", "head.fc.", "head.l.", "head_dist.", "head.weight", "head.bias")
_LISTED = 5  # differences in a message


class Backbone(nn.Module):
    """Convert the three output layouts of timm to one.

    Convolutional models return (B, D, h, w), Swin-like models (B, h, w, D), and ViT-like models (B, prefix + h w, D),
    whose prefix tokens (class, registers) are dropped. `body` is a timm model without pooling and classifier.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.width: int = getattr(body, "head_hidden_size", None) or body.num_features  # type: ignore[assignment]
        self.channels_last = str(getattr(body, "output_fmt", "")).endswith("NHWC")
        self.prefix: int = getattr(body, "num_prefix_tokens", 0)

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
    elif load_weights and recipe.weights != "none":
        load_local(body, Path(recipe.weights))
    return Backbone(body)


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


def load_local(body: nn.Module, path: Path) -> None:
    """Load a safetensors file with timm's parameter names into a timm model without classifier.

    The classifier of the file is ignored. A stem with one gray channel is divided evenly over the three channels of the
    model, which all receive the same radiograph.

    Raises:
        CheckpointError: the file is missing, pickled, damaged, or of another architecture.
    """
    stored = read_safetensors(path)
    own = body.state_dict()
    stored = {name: tensor for name, tensor in stored.items() if name in own or not name.startswith(_CLASSIFIERS)}
    for name, tensor in stored.items():
        if name in own and tensor.ndim == 4 and own[name].shape == (len(tensor), 3, *tensor.shape[2:]) != tensor.shape:
            stored[name] = tensor.expand(-1, 3, -1, -1) / 3
    problems = (
        [f"{name} is missing" for name in own if name not in stored]
        + [f"{name} is not part of it" for name in stored if name not in own]
        + [
            f"{name} is {tuple(stored[name].shape)}, not {tuple(own[name].shape)}"
            for name in own
            if name in stored and stored[name].shape != own[name].shape
        ]
    )
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise CheckpointError(
            f"{path} does not fit {type(body).__name__} of --model.backbone: {'; '.join(problems[:_LISTED])}{more}. "
            "Choose the backbone that these weights were trained with, without output_stride or patch_size options "
            "that change shapes, and save the weights under timm's parameter names."
        )
    body.load_state_dict(stored)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file. A pickle is never opened, because it can run code.

    Raises:
        CheckpointError: the file is missing, pickled or damaged.
    """
    if path.suffix in _PICKLED:
        raise CheckpointError(
            f"{path} is a pickled checkpoint, which can run code when opened; only safetensors are "
            "read. Convert it where you trust it: "
            "safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'weights.safetensors')."
        )
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file. Give `hub`, `none` or the path of a safetensors file.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}). Copy it again, or convert it with safetensors."
        ) from error


def license_of(recipe: ModelRecipe) -> str:
    """License of the initial weights according to timm; `unknown` for a local file, `none` without initial weights."""
    if recipe.weights == "none":
        return "none"
    known = timm.get_pretrained_cfg(recipe.backbone) if recipe.weights == "hub" else None
    return (known.license if known else None) or "unknown"
