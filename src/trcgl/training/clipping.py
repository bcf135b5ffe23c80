"""Gradient clipping, and the search for a loss or gradient that is not finite."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from trcgl.core.errors import Diverged
from trcgl.core.generator_recipe import FitRecipe
from trcgl.core.recipe import TrainRecipe
from trcgl.training.trainer import is_fused

_NAMED = 8  # image ids in a message


class Clipping:
    """Clip gradients, and find the first step whose loss or gradient is not finite, before it changes a weight.

    Reading a result from a GPU waits until the GPU has finished all its work. With a fused optimizer the result
    therefore stays on the GPU, where it makes that step and all later ones leave the weights as they are; `check` reads
    it every `LOG_EVERY` steps and before a checkpoint is saved. Otherwise every step is checked at once.

    Args:
        settings: norm and precision.
        image_ids: names of the rows, for the message.
        advice: end of the message.
    """

    def __init__(self, settings: TrainRecipe | FitRecipe, image_ids: Sequence[str], advice: str) -> None:
        self._settings, self._image_ids, self._advice = settings, image_ids, advice
        self._unread: list[_Step] = []
        self._stopped: Tensor | None = None

    def __call__(
        self, module: LightningModule, optimizer: torch.optim.Optimizer, batches: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Clip the gradient of a step to the norm `clip_gradient`, where it is not 0, and return the norm before that.

        `batches`: the loss and the rows of each batch of the step; rows are -1 for padding.

        Raises:
            Diverged: see `check`.
        """
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), self._settings.clip_gradient or math.inf)
        losses, strategy = torch.stack([loss for loss, _ in batches]), module.trainer.strategy
        finite = losses.isfinite().all()
        if self._settings.precision != "16-mixed":  # its scaler skips steps with infinite gradients
            finite = finite & norm.isfinite()
        if module.trainer.world_size > 1:
            finite = strategy.reduce(finite.float(), reduce_op="mean") == 1
        several = (module.trainer.max_epochs or 1) > 1
        when = f"step {module.global_step}" + (f" (epoch {module.current_epoch + 1})" if several else "")
        self._unread.append(_Step(when, finite, losses.mean(), norm, [rows for _, rows in batches]))
        if is_fused(self._settings, norm.device):
            self._stopped = ~finite if self._stopped is None else self._stopped | ~finite
            optimizer.found_inf = self._stopped.float()  # type: ignore[attr-defined]  # read by the fused kernel
        else:
            self.check()
        return norm

    def check(self) -> None:
        """Read the results of the steps since the last check.

        Raises:
            Diverged: a loss or a gradient was not finite; names the step and its images.
        """
        steps, self._unread = self._unread, []
        if not steps:
            return
        finite = torch.stack([step.finite for step in steps]).tolist()
        if all(finite):
            return
        first = steps[finite.index(False)]
        rows = torch.cat(first.rows)
        raise Diverged(
            f"training diverged after {first.when}: the loss is {float(first.loss):.4g} and the gradient norm "
            f"{float(first.norm):.4g}, on the images {_some_names(self._image_ids, rows[rows >= 0])}. The weights of "
            f"this step were not saved. {self._advice}"
        )


class _Step(NamedTuple):
    when: str
    finite: Tensor
    loss: Tensor
    norm: Tensor
    rows: list[Tensor]


def _some_names(image_ids: Sequence[str], rows: Tensor) -> str:
    """The image ids of the first rows of a batch, and the number of the others."""
    names = [image_ids[row] for row in rows.tolist()]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
