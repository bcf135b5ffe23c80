"""AdamW with two learning rates (backbone and head), and the learning-rate schedule."""

import math

import torch
from torch import nn

from trcgl.core.recipe import TrainRecipe
from trcgl.model.trcgl_net import TrcglNet

_NEVER_DECAYED = ("embeddings", "gate", "pos_embed", "cls_token", "relative_position", "scale")


def build_optimizer(network: TrcglNet, recipe: TrainRecipe, *, fused: bool = False) -> torch.optim.AdamW:
    """AdamW over backbone and head, each divided into parameters with and without weight decay.

    Norms, biases, gates and embeddings have no weight decay: pulling them towards 0 changes their meaning without
    making the function smoother (He et al. 2019, section 3.1). `fused` updates all weights in one kernel.
    """
    groups = []
    for name, modules, rate in (
        ("backbone", (network.backbone, network.norm), recipe.backbone_lr),
        ("head", (network.head_norm, network.head), recipe.head_lr),
    ):
        named = [pair for module in modules for pair in module.named_parameters() if pair[1].requires_grad]
        for decays, kind in ((True, "decayed"), (False, "kept")):
            if parameters := [parameter for key, parameter in named if _decays(key, parameter) == decays]:
                decay = recipe.weight_decay if decays else 0.0
                groups.append({"params": parameters, "lr": rate, "weight_decay": decay, "name": f"{name}, {kind}"})
    return torch.optim.AdamW(groups, fused=fused or None)


def schedule(step: int, warmup: int, total: int, restart: int = 0) -> float:
    """Factor of the learning rate at optimizer step `step`: linear warm-up, then half a cosine to 0.

    The warm-up is at most half of the run, and the first step already has a rate above 0. At step `restart`, if it is
    not 0, the schedule starts again.
    """
    if restart:
        step, total = (step, restart) if step < restart else (step - restart, total - restart)
    warmup = min(warmup, total // 2)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not any(word in name for word in _NEVER_DECAYED)
