"""Averages of the weights over the steps: exponential moving average (EMA) and stochastic weight averaging (SWA)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def decay_at(updates: int, decay: float) -> float:
    """Decay after t updates: min(decay, (1 + t) / (10 + t)), so that a short run is averaged over its own length."""
    return min(decay, (1 + updates) / (10 + updates))


def exponential_share(updates: int, decay: float, start: int = 0, *, warmup: bool = True) -> float:
    """Share of the present weights in their exponential average since the update `start`; 1 before."""
    if updates < start:
        return 1.0
    return 1 - (decay_at(updates - start, decay) if warmup else decay)


def equal_share(updates: int, start: int) -> float:
    """Share of the present weights in their equal average since the update `start`; 1 before: nothing is averaged."""
    return 1 / max(1, updates - start + 1)


class MovingAverage(WeightAveraging):
    """Average weights and running statistics after every optimizer step, for validation and checkpoints.

    In a checkpoint `state_dict` holds the average and `current_model_state` the weights in training.

    Args:
        share: share of the present weights in the new average, after t updates.
        start: number of updates before the average begins, with a share of 1.
    """

    def __init__(self, share: Callable[[int], float], start: int = 0) -> None:
        super().__init__(multi_avg_fn=self._average)
        self._share, self._start = share, start

    @classmethod
    def exponential(cls, decay: float, *, start: int = 0, warmup: bool = True) -> "MovingAverage":
        """An exponential moving average from step `start` on, whose decay warms up (`decay_at`) or is constant."""
        return cls(partial(exponential_share, decay=decay, start=start, warmup=warmup), start)

    @classmethod
    def equal(cls, start: int) -> "MovingAverage":
        """The mean of the weights after each step from `start` on (SWA; Izmailov et al. 2018)."""
        return cls(partial(equal_share, start=start))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the number of updates on the CPU, where reading it does not wait for a GPU."""
        assert self._average_model is not None
        self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def restart(self, module: LightningModule) -> None:
        """Start the average again from the present weights of `module`."""
        assert self._average_model is not None
        self._average_model.module.load_state_dict(module.state_dict())
        self._average_model.n_averaged.fill_(self._start)

    def copy_to(self, module: LightningModule) -> None:
        """Continue training `module` from the average."""
        self._copy_average_to_current(module)

    def _average(self, averaged: Any, current: Any, _: Tensor | int) -> None:
        assert self._average_model is not None
        if torch.is_floating_point(averaged[0]):  # tensors come grouped by type
            torch._foreach_lerp_(averaged, current, self._share(int(self._average_model.n_averaged)))
        else:
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
