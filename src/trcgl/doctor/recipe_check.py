"""`trcgl doctor --recipe NAME`: what a training would need, before hours are spent on it.

Memory is estimated without a GPU, the time comes from a short trial on this machine, and nothing is downloaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trcgl.core import machine
from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.machine import GIB
from trcgl.core.recipe import Recipe, overridden
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.doctor.doctor import gpus
from trcgl.doctor.trial import classifier_step, generator_step, images_per_second
from trcgl.model.backbone import license_of
from trcgl.model.starts import open_start
from trcgl.training.batches import RadiographData
from trcgl.training.memory_estimate import MemoryEstimate, training_memory
from trcgl.training.train import check
from trcgl.training.trainer import on_gpu

SCHEMA = "trcgl.doctor-recipe/1"
COMMON_GPUS = (16, 24, 40, 80)
"""Memory of common GPUs in GB."""
USABLE = 22 / 24
"""Share of the nominal memory of a GPU that an estimate may fill."""
FINDINGS = 30
"""Number of findings that is assumed without a dataset."""
_CHECKPOINTS = 3  # last and best, and the next one before it replaces one of them
_OF_MEMORY = 0.5  # share of the memory of this machine that a trial on the CPU may use


@dataclass(frozen=True)
class _Training:
    """What `check_recipe` asks about a training; `part` is the part of the recipe with its batch size."""

    part: str
    memory: Callable[[Any], MemoryEstimate]
    step: Callable[[], Callable[[int], None]]
    rows: int | None  # training images; None without a dataset
    images: int | None  # images that the whole training shows
    run_bytes: Callable[[MemoryEstimate], int]
    license: str


def check_recipe(
    recipe: Recipe | GeneratorRecipe, dataset: Path | None = None, folder: Path = Path(), *, trial: bool = True
) -> dict[str, Any]:
    """Estimate memory, disk and time of a training, and name the license of its initial weights.

    Args:
        recipe: settings of a classifier or generator.
        dataset: dataset folder; without it 30 findings are assumed, and the time of an epoch is unknown.
        folder: folder for the run; the free space of its disk is compared.
        trial: train on random images for ten seconds.

    Returns:
        `memory`, `disk`, `time` (null without a trial), `license` and `advice`, a list of sentences.

    Raises:
        RecipeError: a setting is wrong.
        DataError: the dataset cannot be used.
        CheckpointError: the initial weights cannot be read.
    """
    opened = open_dataset(dataset) if dataset else None
    hardware = recipe.fit if isinstance(recipe, GeneratorRecipe) else recipe.train
    found = gpus() if on_gpu(hardware.accelerator) else []
    devices = (len(found) or 1 if hardware.devices == "auto" else hardware.devices) * hardware.nodes
    if isinstance(recipe, GeneratorRecipe):
        training = _of_generator(recipe, opened, devices)
    else:
        training = _of_classifier(recipe, opened, devices)
    estimate = training.memory(recipe)
    free = min((gpu["memory_free_gib"] for gpu in found), default=None)
    smallest = next((size for size in COMMON_GPUS if estimate.total <= size * USABLE * GIB), None)
    memory = {f"{name}_gib": round(size / GIB, 2) for name, size in {**vars(estimate), "total": estimate.total}.items()}
    memory |= {
        "gpu": found[0]["name"] if found else None,
        "gpu_free_gib": free,
        "fits": None if free is None else estimate.total <= free * GIB,
        "smallest_gpu_gb": smallest,
    }
    disk = _disk(training.run_bytes(estimate), opened, folder)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "kind": "generator" if training.part == "fit" else "classifier",
        "findings": len(opened.space.findings) if opened else FINDINGS,
        "training_images": training.rows,
        "batch_size": hardware.batch_size,
        "devices": devices,
        "memory": memory,
        "disk": disk,
        "time": None,
        "license": training.license,
    }
    advice = []
    fits_somewhere = smallest is not None if memory["fits"] is None else memory["fits"]
    if not fits_somewhere:
        limit = (COMMON_GPUS[-1] * USABLE if free is None else free) * GIB
        advice.append(_smaller(recipe, training, limit))
    if not disk["writable"]:
        advice.append(f"{folder.resolve()} cannot be written: choose another --folder.")
    elif not disk["fits"]:
        advice.append(f"{disk['free_gib']} GiB of disk are too few: choose another --folder, or free space.")
    if trial:
        most = _most(estimate, -(-hardware.batch_size // devices), None if free is None else free * GIB)
        if most:
            speed = devices * images_per_second(training.step(), most)
            report["time"] = _time(speed, training, "GPU" if found else "CPU")
        else:
            advice.append(
                "No trial: this machine has too little memory for two images. Run this command on the GPU machine."
            )
    return {**report, "advice": advice}


def as_text(report: dict[str, Any]) -> str:
    """The report as lines of text; what to do comes last."""
    memory, disk, time = report["memory"], report["disk"], report["time"]
    parts = ("weights", "gradients", "optimizer", "average", "activations", "allowance")
    parted = ", ".join(f"{name} {memory[f'{name}_gib']:.1f}" for name in parts)
    smallest = memory["smallest_gpu_gb"]
    fits = f"fits a GPU of {smallest} GB" if smallest else f"does not fit a GPU of {COMMON_GPUS[-1]} GB"
    if memory["fits"] is not None:
        fits = f"{'fits' if memory['fits'] else 'does not fit'} {memory['gpu']} ({memory['gpu_free_gib']} GiB free)"
    rows = f"{report['training_images']:,} training images" if report["training_images"] else "no dataset given"
    lines = [
        f"{report['kind']} recipe {report['recipe']}: {report['findings']} findings, {rows}, batches of "
        f"{report['batch_size']} on {report['devices']} device(s)",
        f"memory   {memory['total_gib']:.1f} GiB on each device: {fits}",
        f"         {parted}",
        f"disk     {disk['run_gib']} GiB for the run, {disk['free_gib']} GiB free"
        + (f"; the dataset has {disk['images_gib']} GiB of images" if disk["images_gib"] else ""),
    ]
    if time:
        epoch = "" if time["minutes_per_epoch"] is None else f", {time['minutes_per_epoch']} minutes per epoch"
        hours = time["hours"]
        whole = (
            ""
            if hours is None
            else f", {hours:.1f} hours in all"
            if hours >= 1
            else f", {60 * hours:.0f} minutes in all"
        )
        lines.append(f"time     {time['images_per_second']} images per second on this {time['device']}{epoch}{whole}")
    lines.append(f"license  of the initial weights: {report['license']}")
    todo = [f"- {line}" for line in report["advice"]]
    return "\n".join([*lines, *(["", "to do:", *todo] if todo else [])])


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"


def _of_classifier(recipe: Recipe, opened: Dataset | None, devices: int) -> _Training:
    check(recipe)
    findings = len(opened.space.findings) if opened else FINDINGS
    rows = len(RadiographData(opened, recipe).train_rows) if opened else None
    local = recipe.model.weights not in ("none", "hub")
    return _Training(
        "train",
        lambda changed: training_memory(changed, findings, devices=devices),
        lambda: classifier_step(recipe, findings),
        rows,
        None if rows is None else rows * recipe.train.epochs,
        lambda memory: _CHECKPOINTS * (memory.weights + memory.average + memory.optimizer) + memory.weights,
        open_start(Path(recipe.model.weights)).license if local else license_of(recipe.model),
    )


def _of_generator(recipe: GeneratorRecipe, opened: Dataset | None, devices: int) -> _Training:
    from trcgl.generate.memory_estimate import generator_memory, placeholder_space
    from trcgl.generate.train_generator import check as check_generator
    from trcgl.generate.training_rows import training_rows

    check_generator(recipe)
    space = opened.space if opened else placeholder_space(FINDINGS)
    return _Training(
        "fit",
        lambda changed: generator_memory(changed, space, devices=devices),
        lambda: generator_step(recipe, len(space.findings)),
        len(training_rows(opened)) if opened else None,
        (recipe.fit.steps + recipe.fit.context_steps) * recipe.fit.batch_size,
        lambda memory: (_CHECKPOINTS - 1) * (memory.gradients + memory.average + memory.optimizer) + memory.weights,
        f"that of the base {recipe.base}" if recipe.base else "none",
    )


def _disk(run: int, opened: Dataset | None, folder: Path) -> dict[str, Any]:
    there = machine.disk(folder)
    return {
        "run_gib": round(run / GIB, 1),
        "images_gib": round(opened.require_images().nbytes / GIB, 1) if opened else None,
        "free_gib": there["disk_free_gib"],
        "writable": there["disk_writable"],
        "fits": run <= there["disk_free_gib"] * GIB and there["disk_writable"],
    }


def _time(speed: float, training: _Training, device: str) -> dict[str, Any]:
    return {
        "device": device,
        "images_per_second": float(f"{speed:.3g}"),
        "minutes_per_epoch": None if training.rows is None else round(training.rows / speed / 60, 1),
        "hours": None if training.images is None else round(training.images / speed / 3600, 2),
    }


def _most(estimate: MemoryEstimate, batch: int, gpu: float | None) -> int:
    """Largest number of images of a step that fits; 0 if not even two do."""
    whole = gpu if gpu is not None else (machine.memory() or 0) * GIB * _OF_MEMORY
    each = estimate.activations / batch * (1 if gpu is not None else 2)  # a CPU may compute in float32
    left = whole - (estimate.total - estimate.activations - estimate.allowance)
    most = min(batch, int(left / each))
    return most if most >= min(2, batch) else 0


def _smaller(recipe: Any, training: _Training, limit: float) -> str:
    """Options with which the training fits into `limit` bytes."""
    batch, steps = f"{training.part}.batch_size", 1
    checkpointing = f"{training.part}.gradient_checkpointing"
    option = f"--{training.part}.batch-size"
    size = getattr(recipe, training.part).batch_size
    tried: list[tuple[str, dict[str, Any]]] = []
    if not getattr(recipe, training.part).gradient_checkpointing:
        tried.append((f"--{training.part}.gradient-checkpointing", {checkpointing: True}))
    while size > 1:
        size, steps = size // 2, steps * 2
        more = f" --train.accumulate {recipe.train.accumulate * steps}" if training.part == "train" else ""
        tried.append((f"{option} {size}{more}", {batch: size}))
    for options, changes in tried:
        if training.memory(overridden(recipe, changes)).total <= limit:
            return f"The training does not fit into {limit / GIB:.0f} GiB: give {options}."
    image_size = "--model.image-size" if training.part == "train" else "--image-size"
    return (
        f"The training does not fit into {limit / GIB:.0f} GiB even with batches of one image: give a smaller "
        f"{image_size}."
    )
