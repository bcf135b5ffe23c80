"""Train a stage of a generator with Lightning: checkpoints, signals, resume."""

import math
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger

from trcgl.core.generator_recipe import FitRecipe
from trcgl.training.averaging import MovingAverage
from trcgl.training.checkpoint_io import WholeCheckpointIO
from trcgl.training.launch import Launch
from trcgl.training.stop import StopRequest
from trcgl.training.trainer import quiet, trainer_settings
from trcgl.training.training_log import GoBack, MetricsLog, progress


class LastCheckpoint(Checkpoint):
    """Save a checkpoint every `every` steps (0: never), at the end, and when a signal asks to stop."""

    def __init__(self, path: Path, every: int, request: StopRequest) -> None:
        self._path, self._every, self._request = path, every, request
        self._due = self._stop = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle signals here instead of in Lightning, which would not save a checkpoint."""
        self._request.listen()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Save if a checkpoint is due; the last step is saved when Lightning has counted it."""
        self._stop = self._request.arrived(trainer)
        self._due |= self._stop or bool(self._every and trainer.global_step % self._every == 0)
        self._due |= trainer.is_last_batch
        if not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self._due:
            trainer.save_checkpoint(self._path, weights_only=False)
            self._due = False
        if self._stop:
            raise self._request.interrupted(trainer.global_step)


def fit_stage(
    module: LightningModule,
    stage: str,
    folder: Path,
    steps: int,
    settings: FitRecipe,
    request: StopRequest,
    launch: Launch,
) -> None:
    """Train all parameters of `module` to the last step of a stage, or resume; averaged if `ema` is set.

    Raises:
        Interrupted: a signal asked to stop; the state is saved.
    """
    last, checkpoints = folder / "last.ckpt", WholeCheckpointIO()
    if not (last.exists() and checkpoints.load_checkpoint(last)["global_step"] >= steps):
        trainer = _trainer(stage, folder, steps, settings, LastCheckpoint(last, settings.save_steps, request), launch)
        with quiet():
            trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
    module.load_state_dict(checkpoints.load_checkpoint(last)["state_dict"])


def _trainer(
    stage: str, folder: Path, steps: int, settings: FitRecipe, checkpoint: LastCheckpoint, launch: Launch
) -> Trainer:
    average = [MovingAverage.exponential(settings.ema)] if settings.ema else []
    grid = settings.grid_every if settings.grid_every and settings.grid_every <= steps else None
    with quiet():
        return Trainer(
            **trainer_settings(settings, launch),
            max_steps=steps,
            max_epochs=1,
            val_check_interval=grid,
            check_val_every_n_epoch=None,
            limit_val_batches=None if grid else 0,
            callbacks=[*average, GoBack(), progress(stage), checkpoint],
            logger=[MetricsLog(folder / "metrics.jsonl"), TensorBoardLogger(folder, name="", version="tensorboard")],
            default_root_dir=folder,
        )


def warmed_up(step: int, warmup: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up, constant for the first half, then half a cosine to 0.

    A generator gains from a long constant phase; the decay at the end sharpens its images.
    """
    if step < warmup:
        return (step + 1) / warmup
    late = max(0.0, step - steps / 2) / max(1.0, steps / 2)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, late)))
