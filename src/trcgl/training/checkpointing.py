"""Saving checkpoints, choosing the best epoch and stopping early."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from trcgl.core.recipe import TrainRecipe
from trcgl.core.write_errors import writing
from trcgl.training.classifier import Classifier
from trcgl.training.stop import StopRequest
from trcgl.training.validation import SELECTED

LAST, BEST = "last.ckpt", "best.ckpt"


class CheckpointSaver(Checkpoint):
    """Save the last and the best checkpoint; stop on a signal or when val mAP stops rising.

    Checkpoints are saved after complete optimizer steps only. After the last batch of an epoch, nothing is saved before
    validation, so that a run resumes within an epoch or after its validation. Epochs before `first_epoch` are never the
    best and do not count for early stopping.
    """

    def __init__(self, folder: Path, recipe: TrainRecipe, request: StopRequest, first_epoch: int = 0) -> None:
        self.best: float | None = None
        self.best_epoch = -1
        self._folder, self._recipe, self._request, self._first_epoch = folder, recipe, request, first_epoch
        self._finished_epochs = self._step = 0

    def state_dict(self) -> dict[str, Any]:
        """State of checkpoint selection and early stopping."""
        return {"best": self.best, "best_epoch": self.best_epoch, "finished_epochs": self._finished_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self._finished_epochs = state["finished_epochs"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers, which would stop within an accumulated step."""
        self._request.listen()
        self._step = trainer.global_step
        self._stop_if_stale(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Save within an epoch, every `save_steps` or on a signal."""
        if trainer.global_step == self._step or trainer.is_last_batch:
            return
        self._step = trainer.global_step
        stop = self._request.arrived(trainer)
        if stop or (self._recipe.save_steps and self._step % self._recipe.save_steps == 0):
            trainer.save_checkpoint(self._folder / LAST, weights_only=False)
        if stop:
            raise self._request.interrupted(self._step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after validation; also as the best checkpoint if it is."""
        assert isinstance(pl_module, Classifier)
        self._step, self._finished_epochs = trainer.global_step, trainer.current_epoch + 1
        value = pl_module.validated[SELECTED]
        improved = trainer.current_epoch >= self._first_epoch and (self.best is None or value > self.best)
        if improved:
            self.best, self.best_epoch = value, trainer.current_epoch
        # The best checkpoint first: a run that is killed in between repeats this epoch with the same result.
        trainer.save_checkpoint(self._folder / (BEST if improved else LAST), weights_only=False)
        if improved and trainer.is_global_zero:
            _same_file(self._folder / BEST, self._folder / LAST)
        self._stop_if_stale(trainer)
        if self._request.arrived(trainer):
            raise self._request.interrupted(self._step)

    def _stop_if_stale(self, trainer: Trainer) -> None:
        if self._recipe.patience and self.best is not None:
            trainer.should_stop = self._finished_epochs - 1 - self.best_epoch >= self._recipe.patience


def _same_file(source: Path, target: Path) -> None:
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    with writing(target, aside):
        aside.unlink(missing_ok=True)
        try:
            os.link(source, aside)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, aside)
        os.replace(aside, target)
