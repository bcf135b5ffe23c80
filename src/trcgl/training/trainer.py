"""What all training stages share: settings of Lightning's trainer, gradient clipping, messages."""

import logging
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from trcgl.core.errors import RecipeError
from trcgl.core.generator_recipe import FitRecipe
from trcgl.core.recipe import TrainRecipe
from trcgl.training.checkpoint_io import WholeCheckpointIO
from trcgl.training.launch import Launch

_NAMED = 8  # image ids in the message about a loss that is not finite


def on_gpu(accelerator: Literal["auto", "cpu", "gpu"]) -> bool:
    """Whether to compute on a GPU.

    Raises:
        RecipeError: a GPU is requested, and there is none.
    """
    available = torch.cuda.is_available()
    if accelerator == "gpu" and not available:
        raise RecipeError("accelerator is gpu, and torch finds no GPU: see `trcgl doctor`, or give auto or cpu.")
    return accelerator != "cpu" and available


def trainer_settings(
    settings: TrainRecipe | FitRecipe, launch: Launch, *, unused_parameters: bool = False
) -> dict[str, Any]:
    """Arguments of `lightning.Trainer` that do not depend on the stage, for the hardware settings of a recipe.

    `launch`: the processes that work on it. `unused_parameters`: the loss of some steps does not depend on all
    parameters (a frozen backbone).
    """
    gpu = on_gpu(settings.accelerator)
    several = launch.devices * launch.nodes != 1
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": launch.devices,
        "num_nodes": launch.nodes,
        "strategy": DDPStrategy(find_unused_parameters=unused_parameters) if several else "auto",
        "precision": settings.precision,
        "plugins": [WholeCheckpointIO(), launch.environment],
        "deterministic": gpu,  # CPU kernels are deterministic without it, and faster
        "benchmark": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": sys.stderr.isatty(),
    }


def clip_gradient(module: LightningModule, settings: TrainRecipe | FitRecipe, losses: Tensor) -> tuple[Tensor, bool]:
    """Clip the gradient to the norm `clip_gradient`, where it is not 0.

    Returns:
        The norm before clipping, and whether it and the losses are finite in every process.
    """
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), settings.clip_gradient or math.inf)
    finite = bool(losses.isfinite().all())
    if settings.precision != "16-mixed":  # its scaler skips steps with infinite gradients
        finite = finite and bool(norm.isfinite())
    return norm, module.trainer.strategy.reduce_boolean_decision(finite, all=True)


def some_names(image_ids: Sequence[str], rows: Tensor) -> str:
    """The image ids of the first rows of a batch, and the number of the others."""
    names = [image_ids[row] for row in rows.tolist()]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


@rank_zero_only
def say(line: str) -> None:
    """Print a line on stderr, in the first process."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings about settings that trcgl chooses on purpose."""
    notes = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = notes.level
    notes.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            r".*isinstance\(treespec, LeafSpec\).*",
            r".*is smaller than the logging interval.*",
            r".*Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",
            r".*[Mm]odule\(s\) in eval mode at the start of training.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            notes.setLevel(level)
