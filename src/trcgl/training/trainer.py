"""Lightning's trainer as every training stage uses it: devices, precision, whole checkpoints, no chatter."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from trcgl.core.errors import RecipeError
from trcgl.training.checkpoint_io import WholeCheckpointIO


@runtime_checkable
class Hardware(Protocol):
    """The settings of a recipe that say where it runs."""

    @property
    def accelerator(self) -> Literal["auto", "cpu", "gpu"]:
        """Which kind of device."""

    @property
    def devices(self) -> int | Literal["auto"]:
        """How many on each node."""

    @property
    def nodes(self) -> int:
        """How many machines."""

    @property
    def precision(self) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
        """Of the arithmetic."""


def on_gpu(accelerator: Literal["auto", "cpu", "gpu"]) -> bool:
    """Whether to work on a GPU.

    Raises:
        RecipeError: one is asked for, and there is none.
    """
    there = torch.cuda.is_available()
    if accelerator == "gpu" and not there:
        raise RecipeError("accelerator is gpu, and torch finds no GPU here: see `trcgl doctor`, or give auto or cpu.")
    return accelerator != "cpu" and there


def hardware(settings: Hardware, *, unused_parameters: bool = False) -> dict[str, Any]:
    """Arguments of `lightning.Trainer` for a recipe's hardware.

    Args:
        settings: the part of a recipe that says where it runs.
        unused_parameters: some step's loss does not depend on all parameters (a frozen backbone).
    """
    gpu = on_gpu(settings.accelerator)
    plugins: list[Any] = [WholeCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # it would save in the middle of a step
    devices, nodes = settings.devices, settings.nodes
    several = torch.cuda.device_count() > 1 if devices == "auto" and gpu else devices not in ("auto", 1)
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": devices,
        "num_nodes": nodes,
        "strategy": DDPStrategy(find_unused_parameters=unused_parameters) if several or nodes > 1 else "auto",
        "precision": settings.precision,
        "plugins": plugins,
        "deterministic": gpu,  # CPU kernels are, and the switch would cost them time
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Lightning says about settings that were chosen on purpose, and what torch says about Lightning."""
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
