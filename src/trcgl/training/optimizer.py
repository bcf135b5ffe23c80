"""AdamW with a slow backbone and a fast head, and its learning-rate schedule."""

import math

import torch
from torch import nn

from trcgl.core.recipe import TrainRecipe
from trcgl.model.trcgl_net import TrcglNet

_NEVER_DECAYED = ("embeddings", "gate", "pos_embed", "cls_token", "relative_position", "scale")


def build_optimizer(network: TrcglNet, recipe: TrainRecipe) -> torch.optim.AdamW:
    """AdamW over backbone and head, each split into what decays and what does not.

    Norms, biases, gates and embeddings do not decay: pulling them towards 0 changes what they mean, not how smooth
    the function is (He et al. 2019, section 3.1).
    """
    groups = []
    for name, modules, rate in (
        ("backbone", (network.backbone, network.norm), recipe.backbone_lr),
        ("head", (network.head,), recipe.head_lr),
    ):
        named = [one for module in modules for one in module.named_parameters() if one[1].requires_grad]
        for decays, what in ((True, "decayed"), (False, "kept")):
            parameters = [parameter for key, parameter in named if _decays(key, parameter) == decays]
            if parameters:
                decay = recipe.weight_decay if decays else 0.0
                groups.append({"params": parameters, "lr": rate, "weight_decay": decay, "name": f"{name}, {what}"})
    return torch.optim.AdamW(groups)


def schedule(step: int, warmup: int, total: int, restart: int = 0) -> float:
    """Factor of the learning rate at optimizer step `step`: linear warm-up, then half a cosine to 0.

    Args:
        step: from 0.
        warmup: steps of warm-up; the first of them already moves. At most half of the run.
        total: steps of the run.
        restart: a step before which all this happens once and from which on it happens again; 0: once in all.
    """
    if restart:
        step, total = (step, restart) if step < restart else (step - restart, total - restart)
    warmup = min(warmup, total // 2)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not any(word in name for word in _NEVER_DECAYED)
