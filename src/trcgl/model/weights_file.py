"""Read the tensors of a weights file: safetensors, or a checkpoint of torch.save. No code of the file ever runs."""

import argparse
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from trcgl.core.errors import CheckpointError

PICKLED = {".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl"}
"""Endings of files that `torch.save` writes."""
_WHOLE_MODELS = {
    "torchxrayvision.models": ("DenseNet", "_DenseLayer", "_DenseBlock", "_Transition", "ResNet"),
    "torchvision.models.densenet": ("DenseNet", "_DenseLayer", "_DenseBlock", "_Transition"),
    "torchvision.models.resnet": ("ResNet", "BasicBlock", "Bottleneck"),
}
"""Modules of known models that are distributed as pickled objects, and their classes."""
_DEEPEST = 4  # levels of dictionaries above the tensors: `checkpoint["state"]["student"]["backbone"]`


class _Module:
    """Takes the place of a module class in a pickled model: it keeps the attributes and has no code."""

    _parameters: Mapping[str, Any]
    _buffers: Mapping[str, Any]
    _modules: Mapping[str, Any]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file or of a checkpoint that `torch.save` wrote, by their full names.

    A checkpoint is read with `weights_only`; the names of nested dictionaries (`state_dict`, `model`, `teacher`) are
    joined by dots. A pickled model of torchxrayvision or torchvision is read without its classes.

    Raises:
        CheckpointError: the file is missing or damaged, has no tensors, or needs a class that could run code.
    """
    if path.suffix.lower() not in PICKLED:
        return read_safetensors(path)
    _require_file(path)
    tensors = dict(_tensors(_unpickle(path), "", 0))
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors. Give a checkpoint with the weights of a network.")
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file. A pickle is never opened.

    Raises:
        CheckpointError: the file is missing, pickled or damaged.
    """
    if path.suffix in PICKLED:
        raise CheckpointError(
            f"{path} is a pickled checkpoint; here only safetensors are read. Convert it: "
            "safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'weights.safetensors')."
        )
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}). Copy it again, or convert it with safetensors."
        ) from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such weights file. Give `hub`, `none`, a weights file, or a folder of a run, of an exported "
            "model or of a Hugging Face model."
        )


def _unpickle(path: Path) -> Any:
    """The content of a checkpoint; the file stays on disk until its tensors are used, where its format allows it."""
    with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about storage classes of old files
        try:
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError:  # only files in the zip format can be mapped to memory
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(_refusal(path, error)) from error
        except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
            reason = (str(error) or repr(error)).splitlines()[0]
            raise CheckpointError(f"{path} cannot be read ({reason}). Copy it again.") from error


def _harmless() -> list[Any]:
    """Classes that a checkpoint may name; module classes are replaced by one without code."""
    return [argparse.Namespace, *((_Module, name) for name in _module_classes())]


def _module_classes() -> list[str]:
    """Full names of the module classes of torch and of the models that are distributed as pickled objects."""
    modules = {f"{kind.__module__}.{kind.__qualname__}" for kind in vars(nn).values() if _is_module(kind)}
    return sorted(modules | {f"{module}.{name}" for module, names in _WHOLE_MODELS.items() for name in names})


def _is_module(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, nn.Module)


def _refusal(path: Path, error: Exception) -> str:
    """Why `weights_only` refuses a file, with the command that converts it."""
    target = f"{path.stem}.safetensors"
    convert = (
        "If you trust its author, convert it where its package is installed, and give the new file: "
        f"python -c \"import torch; from safetensors.torch import save_model; loaded = torch.load('{path}', "
        "weights_only=False, map_location='cpu'); "
    )
    try:
        classes = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError):  # not in the zip format of torch 1.6 and later
        if "persistent_load" in str(error):  # the old format stores the source text of classes beside a whole model
            return (
                f"{path} is a whole model in the format of torch before 1.6; reading it would run code. "
                f"{convert}save_model(loaded, '{target}')\""
            )
        return f"{path} cannot be read as a checkpoint ({str(error).splitlines()[0]}). Copy it again."
    allowed = {
        entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__name__}" for entry in _harmless()
    }
    unknown = sorted(set(classes) - allowed)
    named = f"the classes {', '.join(unknown[:5])}" if unknown else "classes"
    return (
        f"{path} needs {named}; reading them would run code. {convert}"
        f"save_model(loaded if hasattr(loaded, 'parameters') else MODEL, '{target}')\", where MODEL is the module of "
        "the checkpoint."
    )


def _tensors(value: Any, prefix: str, depth: int) -> list[tuple[str, Tensor]]:
    """Name and tensor of everything below a value."""
    if isinstance(value, Tensor):
        return [(prefix, value.detach())]
    if isinstance(value, _Module):
        return _module_tensors(value, prefix)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return [
            pair
            for name, inner in value.items()
            for pair in _tensors(inner, f"{prefix}.{name}" if prefix else str(name), depth + 1)
        ]
    return []


def _module_tensors(module: _Module, prefix: str) -> list[tuple[str, Tensor]]:
    """The state dict of a pickled module."""
    stop = f"{prefix}." if prefix else ""
    own = {**module._parameters, **module._buffers}
    found = [(stop + name, tensor.detach()) for name, tensor in own.items() if isinstance(tensor, Tensor)]
    for name, inner in module._modules.items():
        if isinstance(inner, _Module):
            found += _module_tensors(inner, stop + name)
    return found
