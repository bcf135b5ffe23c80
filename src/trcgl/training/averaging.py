"""Exponential moving average (EMA) of the weights."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def decay_at(updates: int, decay: float) -> float:
    """Decay after t updates: min(decay, (1 + t) / (10 + t)), so that a short run is averaged over its own length."""
    return min(decay, (1 + updates) / (10 + updates))


class MovingAverage(WeightAveraging):
    """Average weights and running statistics after every optimizer step, for validation and checkpoints.

    In a checkpoint `state_dict` holds the average and `current_model_state` the weights in training.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=self._average)
        self._decay = decay

    def restart(self, module: LightningModule) -> None:
        """Start the average again from the present weights of `module`."""
        assert self._average_model is not None
        self._average_model.module.load_state_dict(module.state_dict())
        self._average_model.n_averaged.zero_()

    def copy_to(self, module: LightningModule) -> None:
        """Continue training `module` from the average."""
        self._copy_average_to_current(module)

    def _average(self, averaged: Any, current: Any, updates: Tensor | int) -> None:
        if torch.is_floating_point(averaged[0]):  # tensors come grouped by type
            torch._foreach_lerp_(averaged, current, 1 - decay_at(int(updates), self._decay))
        else:
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
