"""Vision transformers of Hugging Face as timm models: which timm model it is, and timm's names of the parameters."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trcgl.core.errors import CheckpointError

_FILES = ("model.safetensors", "pytorch_model.bin")
_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 1536: "giant"}
_PATCH = "embeddings.patch_embeddings.projection.weight"  # every model below has it
_RENAMED = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),  # cls_token, mask_token, register_tokens
    (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (r"^layernorm\.", "norm."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
)
"""Patterns of the names of transformers, as stored on the hub and as in its version 5, and the names of timm."""
_PROJECTION = re.compile(r"(.*?\.)attention\.(?:attention\.)?(query|key|value|q_proj|k_proj|v_proj)\.(weight|bias)$")
_ORDER = {"query": 0, "q_proj": 0, "key": 1, "k_proj": 1, "value": 2, "v_proj": 2}


def is_hugging_face(folder: Path) -> bool:
    """Whether a folder was written by `save_pretrained` of transformers."""
    return (folder / "config.json").is_file()


def weights_of(folder: Path) -> Path:
    """The weights file of a folder.

    Raises:
        CheckpointError: the folder has none, or its weights are divided among several files.
    """
    for name in _FILES:
        if (folder / name).is_file():
            return folder / name
    if any(folder.glob("*.index.json")):
        raise CheckpointError(
            f"{folder}: the weights are divided among several files. Write them as one: "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(NEW, max_shard_size='100GB')."
        )
    raise CheckpointError(f"{folder} has no {' or '.join(_FILES)}. Copy the whole folder of the model.")


def timm_names(folder: Path) -> tuple[str, ...]:
    """The timm models with the architecture that `config.json` describes.

    Raises:
        CheckpointError: the model is no ViT or DINOv2, or timm has no model of its size.
    """
    config = _config(folder)
    kind, size, patch = config.get("model_type"), _SIZES.get(config.get("hidden_size", 768)), config.get("patch_size")
    blocks = config.get("num_hidden_layers", 12)
    if kind not in ("dinov2", "dinov2_with_registers", "vit"):
        raise CheckpointError(
            f"{folder}/config.json: model_type is {kind!r}; ViT and DINOv2 models (vit, dinov2, dinov2_with_registers) "
            "are read. For another architecture, save its weights under timm's parameter names."
        )
    if size is None or blocks != {"large": 24, "huge": 32, "giant": 40}.get(size, 12):
        raise CheckpointError(
            f"{folder}/config.json: timm has no {kind} of width {config.get('hidden_size')} with {blocks} layers."
        )
    patch = patch or {"dinov2": 14}.get(str(kind), 16)
    if kind == "vit":
        return (f"vit_{size}_patch{patch}_224", f"vit_{size}_patch{patch}_{config.get('image_size', 224)}")
    registers = config.get("num_register_tokens", 4) if kind == "dinov2_with_registers" else 0
    return (f"vit_{size}_patch{patch}{f'_reg{registers}' if registers else ''}_dinov2",)


def normalization(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation of the three channels from `preprocessor_config.json`; None without that file."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    settings = json.loads(path.read_text(encoding="utf-8"))
    if not settings.get("do_normalize", True):
        return (0.0,) * 3, (1.0,) * 3
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if mean is None or std is None:
        return None
    return _three(mean), _three(std)


def license_in(folder: Path) -> str | None:
    """The license that the front matter of `README.md` states."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    stated = re.search(r"^license(?:_name)?: *[\"']?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return stated[1].lower() if stated else None


def prefix_of(names: Mapping[str, Any]) -> str | None:
    """What precedes the names of a Hugging Face vision transformer, such as `dinov2.`; None if there is none."""
    return next((name.removesuffix(_PATCH) for name in names if name.endswith(_PATCH)), None)


def renamed(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a Hugging Face vision transformer under timm's names; query, key and value in one tensor."""
    result: dict[str, Tensor] = {}
    projections: dict[str, dict[int, Tensor]] = {}
    for name, tensor in stored.items():
        if part := _PROJECTION.fullmatch(name):
            projections.setdefault(f"{part[1]}attn.qkv.{part[3]}", {})[_ORDER[part[2]]] = tensor
        else:
            result[_timm(name)] = tensor
    for name, parts in projections.items():
        result[_timm(name)] = torch.cat([parts[place] for place in sorted(parts)])
    return result


def _timm(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder}/config.json is not valid JSON ({error}). Copy it again.") from error


def _three(values: Any) -> tuple[float, ...]:
    listed = values if isinstance(values, list) else [values]
    return tuple(float(value) for value in (listed * 3 if len(listed) == 1 else listed))
