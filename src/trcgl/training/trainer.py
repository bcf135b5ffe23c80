"""Settings of Lightning's trainer that all training stages share: devices, precision, checkpoints, fewer messages."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from trcgl.core.errors import RecipeError
from trcgl.core.generator_recipe import FitRecipe
from trcgl.core.recipe import TrainRecipe
from trcgl.training.checkpoint_io import WholeCheckpointIO


def on_gpu(accelerator: Literal["auto", "cpu", "gpu"]) -> bool:
    """Whether to compute on a GPU.

    Raises:
        RecipeError: a GPU is requested, and there is none.
    """
    available = torch.cuda.is_available()
    if accelerator == "gpu" and not available:
        raise RecipeError("accelerator is gpu, and torch finds no GPU: see `trcgl doctor`, or give auto or cpu.")
    return accelerator != "cpu" and available


def hardware(settings: TrainRecipe | FitRecipe, *, unused_parameters: bool = False) -> dict[str, Any]:
    """Arguments of `lightning.Trainer` for the hardware settings of a recipe.

    `unused_parameters`: the loss of some steps does not depend on all parameters (a frozen backbone).
    """
    gpu = on_gpu(settings.accelerator)
    plugins: list[Any] = [WholeCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # it would save within a step
    devices, nodes = settings.devices, settings.nodes
    several = torch.cuda.device_count() > 1 if devices == "auto" and gpu else devices not in ("auto", 1)
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": devices,
        "num_nodes": nodes,
        "strategy": DDPStrategy(find_unused_parameters=unused_parameters) if several or nodes > 1 else "auto",
        "precision": settings.precision,
        "plugins": plugins,
        "deterministic": gpu,  # CPU kernels are deterministic without it, and faster
    }


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
