"""Fit the tensors of a checkpoint to a timm model: names, prefix, image size, channels of the stem, classifier."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trcgl.core.errors import CheckpointError
from trcgl.model import hugging_face

_NOT_FEATURES = re.compile(
    r"(classifier|fc|head|heads|head_dist|lm_head|pooler|decoder\w*|projectors?|dino_head|ibot_head|pre_logits|omega_heads)\."
    r"|(\w+\.)?(mask_token|op_threshs|relative_position_index|attn_mask)$"
)
"""Classifiers, and what only pretraining or the scores need."""
_FILTERS = ("checkpoint_filter_fn", "_filter_torchvision_pretrained")  # timm's conversions of published checkpoints
_AVERAGED = ("ema", "teacher")  # where a checkpoint has several networks, the averaged one is the better start
_LISTED = 5  # differences in a message


def fit(
    body: nn.Module, stored: Mapping[str, Tensor], path: Path, hint: str = ""
) -> tuple[dict[str, Tensor], list[str]]:
    """The state of a timm model without classifier, from the tensors of a checkpoint.

    The network in the checkpoint is found by its parameters, whatever precedes their names. Names of Hugging Face,
    torchvision and the authors that timm knows are translated; position embeddings are resampled to the image size of
    `body`; a stem with one gray channel is divided evenly over three channels, which all receive the same radiograph.

    Args:
        body: a timm model without pooling and classifier.
        stored: tensors by name.
        path: where they come from, for messages.
        hint: sentence at the end of a refusal.

    Returns:
        The state of `body`, and what was changed or left out, as phrases.

    Raises:
        CheckpointError: a parameter of `body` is missing, or the checkpoint has parameters that `body` has not.
    """
    own = body.state_dict()
    prefix = hugging_face.prefix_of(stored)
    found = {}
    changes = []
    if prefix is not None:
        found = hugging_face.renamed(_below(stored, prefix))
    elif (prefix := _prefix(stored, own)) is not None:
        found = _below(stored, prefix)
    if prefix:
        changes.append(f"network under {prefix.rstrip('.')!r}")
    if any(name not in found or found[name].shape != tensor.shape for name, tensor in own.items()):
        found = _converted(body, found, path)
    found = _with_final_norm(found, stored, own)
    found |= {
        name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked") and name not in found
    }
    for name, tensor in found.items():
        if name in own and tensor.ndim == 4 and own[name].shape == (len(tensor), 3, *tensor.shape[2:]) != tensor.shape:
            found[name] = tensor.expand(-1, 3, -1, -1) / 3
            changes.append("stem of 1 channel divided over 3")
    before = {name.removeprefix(prefix or ""): tensor for name, tensor in stored.items()}
    changes += _resampled(before, found)
    left_out = [name for name in found if name not in own and _NOT_FEATURES.match(name)]
    if left_out:
        changes.append(f"left out: {', '.join(sorted({name.split('.')[0] for name in left_out}))}")
    found = {name: tensor for name, tensor in found.items() if name not in left_out}
    if problems := _differences(found, own):
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise CheckpointError(
            f"{path} does not fit {type(body).__name__} of --model.backbone: {'; '.join(problems[:_LISTED])}{more}. "
            + (
                hint
                or "Choose the backbone that these weights were trained with, without output_stride or patch_size "
                "options that change shapes. Names of timm, torchvision, torchxrayvision and Hugging Face are read."
            )
        )
    return {name: tensor.to(own[name].dtype) for name, tensor in found.items()}, changes


def _prefix(stored: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """What precedes the names of the network: the prefix under which the most of its own names are found."""
    counted: Counter[str] = Counter()
    for name in stored:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in own:
                counted[".".join(parts[:start])] += 1
    if not counted:
        return ""
    most = max(counted.values())
    best = sorted(prefix for prefix, number in counted.items() if number == most)
    averaged = [prefix for prefix in best if any(word in prefix for word in _AVERAGED)]
    chosen = (averaged or sorted(best, key=len))[0]
    return f"{chosen}." if chosen else ""


def _below(stored: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}


def _converted(body: nn.Module, found: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors after timm's own conversion for this architecture, where it has one."""
    module = sys.modules[type(body).__module__]
    convert: Callable[..., dict[str, Tensor]] | None = next(
        (getattr(module, name) for name in _FILTERS if hasattr(module, name)), None
    )
    if convert is None:
        return found
    try:
        return convert(dict(found), body) if convert.__name__ == _FILTERS[0] else convert(dict(found))
    except (KeyError, AttributeError, RuntimeError, ValueError, IndexError, AssertionError):
        return found  # a checkpoint of another architecture, whose differences are reported


def _with_final_norm(
    found: dict[str, Tensor], stored: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The norm after the last block under the name that the model without pooling has for it."""
    result = {}
    for name, tensor in found.items():
        # Fine-tuned vision transformers apply the last norm after pooling, and call it fc_norm.
        moved = name.removeprefix("fc_") if name.startswith("fc_norm.") else name
        result[moved if moved in own and moved not in found else name] = tensor
    for kind in ("weight", "bias"):  # runs of this project keep the norm of the head beside the backbone
        name = f"head.norm.{kind}"
        if name in own and name not in result and f"network.norm.{kind}" in stored:
            result[name] = stored[f"network.norm.{kind}"]
    return result


def _resampled(before: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    for name in ("pos_embed", "embeddings.position_embeddings"):
        if name in before and "pos_embed" in found and before[name].ndim == 3:
            old, new = before[name].shape[1], found["pos_embed"].shape[1]
            grids = [int(tokens**0.5) for tokens in (old, new)]  # less than a row of class and register tokens
            if grids[0] != grids[1]:
                return [f"position embeddings resampled from {grids[0]} x {grids[0]} to {grids[1]} x {grids[1]}"]
    return []


def _differences(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    return (
        [f"{name} is missing" for name in own if name not in found]
        + [f"{name} is not part of it" for name in found if name not in own]
        + [
            f"{name} is {tuple(found[name].shape)}, not {tuple(own[name].shape)}"
            for name in own
            if name in found and found[name].shape != own[name].shape
        ]
    )
