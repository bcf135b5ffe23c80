"""Initial weights of the backbone from a safetensors file, and their license."""

from pathlib import Path

import timm
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from trcgl.core.errors import CheckpointError
from trcgl.core.recipe import ModelRecipe

_PICKLED = {".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl"}
_CLASSIFIERS = ("classifier.", "fc.", "head.fc.", "head.l.", "head_dist.", "head.weight", "head.bias")
_LISTED = 5  # differences in a message


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
