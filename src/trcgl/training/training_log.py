"""Logs of training: `metrics.jsonl`, other loggers by name, progress lines, and the cost of a run."""

import importlib.util
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from trcgl.core import storage
from trcgl.core.errors import RecipeError
from trcgl.core.progress import spell
from trcgl.core.write_errors import writing
from trcgl.training.classifier import Classifier
from trcgl.training.validation import SELECTED

_EVERY = 10.0  # seconds between two progress lines


class MetricsLog(Logger):
    """A JSON line per logged step with `step` (finished optimizer steps), `epoch` and the values."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def name(self) -> str:
        """Required by Lightning."""
        return "metrics"

    @property
    def version(self) -> str:
        """Required by Lightning."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to log: the recipe is in `recipe.json`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append a line."""
        with writing(self._path), open(self._path, "a", encoding="utf-8") as handle:
            storage.append_jsonl(handle, {"step": step, **metrics})

    @rank_zero_only
    def go_back_to(self, step: int) -> None:
        """Remove the lines after `step`, which a resumed run writes again."""
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            storage.write_text(self._path, "".join(kept))


def require_logger(name: str) -> None:
    """Refuse a logger whose package, which has the same name, is not installed.

    Raises:
        RecipeError: the package is not installed.
    """
    if name in ("tensorboard", "mlflow", "wandb") and not importlib.util.find_spec(name):
        install = name if name == "tensorboard" else f"'trcgl-net[{name}]'"
        raise RecipeError(
            f"train.logger is {name}, and the package {name} is not installed. Run `pip install {install}`, or choose "
            "another logger; metrics.jsonl is always written."
        )


def named_logger(name: str, out: Path) -> list[Logger]:
    """The logger that `train.logger` names; empty for `none`.

    `tensorboard` and `csv` write into a folder of the run. `mlflow` and `wandb` send the values to the server that is
    configured for them; without `MLFLOW_TRACKING_URI`, `mlflow` writes into a folder of the run.
    """
    loggers: dict[str, Callable[[], Logger]] = {
        "tensorboard": lambda: TensorBoardLogger(out, name="", version="tensorboard"),
        "csv": lambda: CSVLogger(out, name="", version="csv"),
        "mlflow": lambda: MLFlowLogger("trcgl", run_name=out.name, save_dir=str(out / "mlflow")),
        "wandb": lambda: WandbLogger(name=out.name, save_dir=out, project="trcgl"),
    }
    return [loggers[name]()] if name in loggers else []


class GoBack(Callback):
    """Truncates `metrics.jsonl` to the step that training resumes from."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the lines of steps that will be repeated."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsLog):
                logger.go_back_to(trainer.global_step or -1)  # a run that starts again logs step 0 again


class Stopwatch(Callback):
    """Measures images per second of the fastest epoch, without validation.

    The fastest epoch is reported because other work on the machine, compilation and cold caches slow an epoch down.
    Epochs that train the head alone are cheaper and do not count.
    """

    def __init__(self) -> None:
        self.images_per_second: float | None = None
        self._images, self._started = 0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._images, self._started = 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the images of all processes; stop the clock before validation."""
        assert isinstance(pl_module, Classifier)
        self._images += batch["of"]
        if trainer.is_last_batch and not pl_module.backbone_is_frozen:
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # wait for the last batch
            rate = self._images / max(time.monotonic() - self._started, 1e-9)
            self.images_per_second = max(rate, self.images_per_second or 0.0)


def cost(network: nn.Module, stopwatch: Stopwatch) -> dict[str, Any]:
    """Cost of a run: `parameters`, `images_per_second`, `peak_memory_mib` and `device`.

    The memory is the peak that torch allocated on the GPU, or the peak resident set of this process on the CPU.
    """
    gpu = torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "images_per_second": stopwatch.images_per_second,
        "peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20 if gpu else resident),
        "device": torch.cuda.get_device_name() if gpu else "CPU",
    }


class ProgressLines(Callback):
    """Prints a line with the remaining time on stderr, every ten seconds and at the end.

    With the name of a `stage` of a generator it prints the loss, else the val mAP of each epoch of a classifier.
    """

    def __init__(self, stage: str = "") -> None:
        self._stage = stage

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = self._said = time.monotonic()
        self._before = trainer.fit_loop.total_batch_idx + 1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Print a line if the last one is ten seconds old or a stage has ended."""
        if time.monotonic() - self._said >= _EVERY or (self._stage and trainer.is_last_batch):
            self._say(trainer, f", loss {float(outputs['loss']):.4f}" if self._stage else "")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the val mAP."""
        if isinstance(pl_module, Classifier):
            self._say(trainer, f", val mAP {pl_module.validated[SELECTED]:.4f}")

    @rank_zero_only
    def _say(self, trainer: Trainer, more: str) -> None:
        self._said = time.monotonic()
        done = trainer.fit_loop.total_batch_idx + 1
        whole = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
        left = (self._said - self._started) * (whole - done) / max(1, done - self._before)
        what = (
            f"{self._stage}: step" if self._stage else f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, batch"
        )
        print(f"{what} {done}/{whole}{more}, {spell(left)} left", file=sys.stderr, flush=True)


def progress(stage: str = "") -> Callback:
    """A progress bar if stderr is a terminal, else printed lines of progress."""
    return RichProgressBar(console_kwargs={"stderr": True}) if sys.stderr.isatty() else ProgressLines(stage)
