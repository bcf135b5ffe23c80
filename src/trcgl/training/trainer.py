"""What all training stages share: settings of Lightning's trainer, messages."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from trcgl.core.errors import RecipeError
from trcgl.core.generator_recipe import FitRecipe
from trcgl.core.recipe import TrainRecipe
from trcgl.training.checkpoint_io import WholeCheckpointIO
from trcgl.training.launch import Launch

LOG_EVERY = 10
"""Optimizer steps between two logged steps."""


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

    On a GPU it also turns on TensorFloat-32 for the float32 products of this process.

    `launch`: the processes that work on it. `unused_parameters`: the loss of some steps does not depend on all
    parameters (a frozen backbone).
    """
    gpu = on_gpu(settings.accelerator)
    if gpu:
        torch.set_float32_matmul_precision("high")
    several = launch.devices * launch.nodes != 1
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": launch.devices,
        "num_nodes": launch.nodes,
        "strategy": DDPStrategy(find_unused_parameters=unused_parameters) if several else "auto",
        "precision": settings.precision,
        "plugins": [WholeCheckpointIO(), launch.environment],
        "deterministic": gpu and settings.deterministic,  # CPU kernels are deterministic without it, and faster
        "benchmark": gpu and not settings.deterministic,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": sys.stderr.isatty(),
    }


def is_fused(settings: TrainRecipe | FitRecipe, device: torch.device) -> bool:
    """Whether to use the fused AdamW of a GPU. With `16-mixed` it would get gradients that are still scaled."""
    return device.type == "cuda" and settings.precision != "16-mixed"


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
