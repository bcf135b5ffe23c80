"""What training tells: `metrics.jsonl`, which is the truth, and lines for those who watch without a terminal."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from trcgl.core import storage
from trcgl.core.progress import spell
from trcgl.training.classifier import Classifier
from trcgl.training.validation import SELECTED

_EVERY = 10.0  # seconds between two lines


class MetricsLog(Logger):
    """One line of JSON per logged step: `step` (optimizer steps made), `epoch`, and the values.

    Args:
        path: of the file; lines are appended.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def name(self) -> str:
        """Unused by Lightning beyond file names."""
        return "metrics"

    @property
    def version(self) -> str:
        """Unused by Lightning beyond file names."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The recipe is stored in `recipe.json`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append a line."""
        with open(self._path, "a", encoding="utf-8") as handle:
            storage.append_jsonl(handle, {"step": step, **metrics})

    @rank_zero_only
    def go_back_to(self, step: int) -> None:
        """Drop the lines after `step`: a resumed run writes them again."""
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            storage.write_text(self._path, "".join(kept))


class GoBack(Callback):
    """Bring `metrics.jsonl` back to the step that training goes on from."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Drop the lines of steps that will be made again."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsLog):
                logger.go_back_to(trainer.global_step or -1)  # a run that starts anew logs its step 0 again


class Stopwatch(Callback):
    """Measures images per second: of the fastest epoch, from its first batch to the end of its last, validation apart.

    Other work on the machine, compilation and cold caches only ever slow an epoch down. Epochs in which the head learns
    alone are cheaper than training is, and do not count.
    """

    def __init__(self) -> None:
        self.images_per_second: float | None = None
        self._images, self._started = 0, 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._images, self._started = 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images of all processes; stop the clock before validation."""
        assert isinstance(pl_module, Classifier)
        self._images += batch["of"]
        if trainer.is_last_batch and not pl_module.backbone_rests:
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # the last batch may still be at work
            rate = self._images / max(time.monotonic() - self._started, 1e-9)
            self.images_per_second = max(rate, self.images_per_second or 0.0)


def cost(network: nn.Module, stopwatch: Stopwatch) -> dict[str, Any]:
    """What training took: `parameters`, `images_per_second`, `peak_memory_mib` and the `device`.

    Memory is what torch allocated on the GPU at most, or the largest resident set of this process on the CPU.
    """
    gpu = torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "parameters": sum(one.numel() for one in network.parameters()),
        "images_per_second": stopwatch.images_per_second,
        "peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20 if gpu else resident),
        "device": torch.cuda.get_device_name() if gpu else "CPU",
    }


class ProgressLines(Callback):
    """A line on stderr every ten seconds and after each epoch, with the time left."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started = self._said = time.monotonic()
        self._before = trainer.fit_loop.total_batch_idx + 1

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Say where we are, if it has been quiet."""
        if time.monotonic() - self._said >= _EVERY:
            self._say(trainer, "")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say what val says."""
        assert isinstance(pl_module, Classifier)
        self._say(trainer, f", val mAP {pl_module.validated[SELECTED]:.4f}")

    @rank_zero_only
    def _say(self, trainer: lightning.Trainer, more: str) -> None:
        self._said = time.monotonic()
        done = trainer.fit_loop.total_batch_idx + 1
        whole = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
        left = (self._said - self._started) * (whole - done) / max(1, done - self._before)
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, batch {done}/{whole}{more}, {spell(left)} left",
            file=sys.stderr,
            flush=True,
        )
