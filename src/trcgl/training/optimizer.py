"""AdamW with two learning rates (backbone and head), and the learning-rate schedule."""

import math
from collections.abc import Callable

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
    backbone_decay = recipe.weight_decay if recipe.backbone_decay is None else recipe.backbone_decay
    for name, modules, rate, decay in (
        ("backbone", (network.backbone, network.norm), recipe.backbone_lr, backbone_decay),
        ("head", (network.head_norm, network.head), recipe.head_lr, recipe.weight_decay),
    ):
        named = [pair for module in modules for pair in module.named_parameters() if pair[1].requires_grad]
        for decays, kind in ((True, "decayed"), (False, "kept")):
            chosen = [weight for key, weight in named if (recipe.decay_all or _decays(key, weight)) == decays]
            if chosen:
                own = decay if decays else 0.0
                groups.append({"params": chosen, "lr": rate, "weight_decay": own, "name": f"{name}, {kind}"})
    return torch.optim.AdamW(groups, eps=recipe.adam_eps, fused=fused or None)


def warmup_stage(recipe: TrainRecipe) -> int:
    """Number of epochs of the head's warm-up where it is a stage of its own, else 0."""
    return recipe.head_warmup_epochs if recipe.head_warmup_lr is not None else 0


def rate_factor(recipe: TrainRecipe, steps: int, retrain_step: int = 0) -> Callable[[int], float]:
    """Factor of the learning rates at an optimizer step of a run of `steps`, see `schedule`.

    With `head_warmup_lr`, the factor during the warm-up of the head gives the head that rate. The schedule of the other
    epochs advances at every step, or after every epoch.

    `retrain_step`: the first step that retrains the head, 0 if none does.
    """
    of_epoch = steps // recipe.epochs
    first = warmup_stage(recipe) * of_epoch
    unit, warmup = (of_epoch, recipe.warmup_epochs) if recipe.schedule == "epoch" else (1, recipe.warmup_steps)
    total, restart = (steps - first) // unit, max(0, retrain_step - first) // unit

    def factor(step: int) -> float:
        if step < first:
            return (recipe.head_warmup_lr or 0.0) / recipe.head_lr
        return schedule((step - first) // unit, warmup, total, restart, recipe.lr_floor)

    return factor


def schedule(step: int, warmup: int, total: int, restart: int = 0, floor: float = 0.0) -> float:
    """Factor of the learning rate at `step` of `total`: linear warm-up, then half a cosine to `floor`.

    The warm-up is at most half of the run, and the first step already has a rate above 0. At step `restart`, if it is
    not 0, the schedule starts again.
    """
    if restart:
        step, total = (step, restart) if step < restart else (step - restart, total - restart)
    warmup = min(warmup, total // 2)
    if step < warmup:
        return (step + 1) / warmup
    return max(floor, 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))))


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not any(word in name for word in _NEVER_DECAYED)
