"""Train a stage of a generator with Lightning: checkpoints, signals, resume."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from trcgl.core.errors import Interrupted
from trcgl.core.generator_recipe import FitRecipe
from trcgl.core.progress import spell
from trcgl.training.averaging import MovingAverage
from trcgl.training.checkpoint_io import WholeCheckpointIO
from trcgl.training.stop import StopRequest
from trcgl.training.trainer import hardware, quiet
from trcgl.training.training_log import GoBack, MetricsLog

_EVERY = 10.0  # seconds between two progress lines


class LastCheckpoint(Checkpoint):
    """Save a checkpoint regularly, at the end, and when a signal asks to stop.

    Args:
        every: steps between checkpoints; 0 saves at the end only.
    """

    def __init__(self, path: Path, every: int, request: StopRequest) -> None:
        self._path, self._every, self._request = path, every, request
        self._due = self._stop = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Handle signals here instead of in Lightning, which would not save a checkpoint."""
        self._request.listen()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Save if a checkpoint is due; the last step is saved when Lightning has counted it."""
        self._stop = trainer.strategy.reduce_boolean_decision(self._request.signal is not None, all=False)
        self._due |= self._stop or bool(self._every and trainer.global_step % self._every == 0)
        self._due |= trainer.is_last_batch
        if not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the last step."""
        self._save(trainer)

    def _save(self, trainer: lightning.Trainer) -> None:
        if self._due:
            trainer.save_checkpoint(self._path, weights_only=False)
            self._due = False
        if self._stop:
            number = self._request.signal or 15  # another process received the signal
            raise Interrupted(number, f"stopped after step {trainer.global_step}; the same command resumes from there.")


class StepLines(Callback):
    """A progress line on stderr every ten seconds, with the loss and the time left."""

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started = self._said = time.monotonic()
        self._before = trainer.global_step

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        """Print a line if ten seconds have passed or the stage has ended."""
        done, whole = trainer.global_step, trainer.max_steps
        if time.monotonic() - self._said < _EVERY and done < whole:
            return
        self._said = time.monotonic()
        left = (self._said - self._started) * (whole - done) / max(1, done - self._before)
        loss = float(outputs["loss"])
        print(f"{self._stage}: step {done}/{whole}, loss {loss:.4f}, {spell(left)} left", file=sys.stderr, flush=True)


def fit_stage(
    module: lightning.LightningModule, stage: str, folder: Path, steps: int, settings: FitRecipe, request: StopRequest
) -> None:
    """Train all parameters of `module` to the last step of a stage, or resume; averaged if `ema` is set.

    Raises:
        Interrupted: a signal asked to stop; the state is saved.
    """
    last, checkpoints = folder / "last.ckpt", WholeCheckpointIO()
    if not (last.exists() and checkpoints.load_checkpoint(last)["global_step"] >= steps):
        trainer = _trainer(stage, folder, steps, settings, LastCheckpoint(last, settings.save_steps, request))
        trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
    module.load_state_dict(checkpoints.load_checkpoint(last)["state_dict"])


def _trainer(
    stage: str, folder: Path, steps: int, settings: FitRecipe, checkpoint: LastCheckpoint
) -> lightning.Trainer:
    terminal = sys.stderr.isatty()
    progress: Callback = RichProgressBar(console_kwargs={"stderr": True}) if terminal else StepLines(stage)
    callbacks: list[Callback] = [GoBack(), progress, checkpoint]
    if settings.ema:
        callbacks.insert(0, MovingAverage(settings.ema))
    grid = settings.grid_every if settings.grid_every and settings.grid_every <= steps else None
    with quiet():
        return lightning.Trainer(
            **hardware(settings),
            max_steps=steps,
            max_epochs=1,
            val_check_interval=grid,
            check_val_every_n_epoch=None,
            limit_val_batches=None if grid else 0,
            callbacks=callbacks,
            logger=[MetricsLog(folder / "metrics.jsonl"), TensorBoardLogger(folder, name="", version="tensorboard")],
            default_root_dir=folder,
            benchmark=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=terminal,
        )


def warmed_up(step: int, warmup: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up, constant for the first half, then half a cosine to 0.

    A generator gains from a long constant phase; the decay at the end sharpens its images.
    """
    if step < warmup:
        return (step + 1) / warmup
    late = max(0.0, step - steps / 2) / max(1.0, steps / 2)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, late)))
