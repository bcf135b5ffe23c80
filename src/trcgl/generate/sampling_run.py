"""Sample the images of a plan into parts on disk, on one or several processes.

Every process writes the parts that it has sampled, each whole or not at all; parts that exist when the run starts again
are not sampled again. An image is a function of its prompt and seed, so it does not matter which process samples it, in
which batch.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, UInt8
from lightning.fabric import Fabric
from torch import Tensor

from trcgl.core.parts import Parts
from trcgl.dataset.store import write_images
from trcgl.generate.pipeline import Generator
from trcgl.generate.pixel_sources import ImageStart
from trcgl.generate.plan import prompt_of
from trcgl.generate.prompts import Prompt
from trcgl.generate.solver import Solver, sample
from trcgl.model.tensors import at_size
from trcgl.training.launch import Launch
from trcgl.training.trainer import on_gpu

IMAGES_PER_PART = 128
Precision = Literal["32-true", "bf16"]
ChosenPrecision = Literal["auto", "32-true", "bf16"]


@dataclass(frozen=True)
class SamplingSettings:
    """How images are sampled."""

    side: int  # side of the stored images in pixels; sampled images of another size are resized
    steps: int
    guided_to: float
    solver: Solver
    batch_size: int
    start: ImageStart | None = None  # of image-to-image synthesis; None starts from noise


def precision_for(chosen: ChosenPrecision, gpu: bool) -> Precision:
    """The precision to compute in; `auto` is bfloat16 on a GPU that computes in it, else float32."""
    if chosen != "auto":
        return chosen
    return "bf16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def image_parts(folder: Path, count: int) -> Parts:
    """The parts of `count` images."""
    return Parts(folder, count, IMAGES_PER_PART)


def read_images(parts: Parts) -> Iterator[UInt8[np.ndarray, "part side side"]]:
    """The images of finished parts, part by part."""
    for part in range(len(parts)):
        yield np.load(parts.path(part), allow_pickle=False)


def begin(launch: Launch, accelerator: Literal["auto", "cpu", "gpu"]) -> Fabric:
    """Start the sampling processes, or join those that a launcher has started."""
    fabric = Fabric(
        accelerator="gpu" if on_gpu(accelerator) else "cpu",
        devices=launch.devices,
        num_nodes=launch.nodes,
        strategy="ddp" if launch.devices * launch.nodes != 1 else "auto",
        plugins=[launch.environment],
    )
    fabric.launch()
    if fabric.local_rank:
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    return fabric


def end_with(parent: int) -> None:
    """End this process soon after its parent has ended, even if the parent was killed."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def prepare_network(generator: Generator, device: torch.device, precision: Precision, compiled: bool) -> None:
    """Move a generator to a device and set the precision of its U-Net.

    Text encoder and autoencoder stay in float32: each runs once per image, and rounding errors would be visible.
    """
    generator.to(device)
    # Not diffusers' own `to`, which warns about layers that other networks of diffusers keep in float32.
    torch.nn.Module.to(generator.unet, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    if compiled:
        generator.unet.compile()


def sample_parts(
    generator: Generator, plan: pl.DataFrame, parts: Parts, todo: Sequence[int], settings: SamplingSettings
) -> Iterator[int]:
    """Sample and write parts; yields the index of each image in the plan once it is sampled.

    `generator`: prepared by `prepare_network`. `plan`: rows of `trcgl.generate.plan`, with the column `guidance`, and
    with pixel sources if `settings` start from images.
    """
    with torch.inference_mode():
        empty = generator.encode_empty().to(generator.unet.dtype)
    for part in todo:
        rows = plan[parts.rows(part).start : parts.rows(part).stop]
        hidden, places = _encoded(generator, rows, settings.batch_size)
        seeds, guidance = rows["seed"].to_list(), rows["guidance"].to_list()
        batches = []
        for start in range(0, len(seeds), settings.batch_size):
            batch = slice(start, start + settings.batch_size)
            how = {} if settings.start is None else _start(settings.start, rows[batch], generator)
            images = sample(
                generator,
                hidden[places[batch]],
                empty,
                seeds[batch],
                steps=settings.steps,
                guidance=guidance[batch],
                guided_to=settings.guided_to,
                solver=settings.solver,
                **how,
            )
            batches.append(at_size(torch.from_numpy(images), settings.side).numpy())
            yield from parts.rows(part)[batch]
        write_images(parts.path(part), [np.concatenate(batches)], rows.height, settings.side)


def _start(start: ImageStart, rows: pl.DataFrame, generator: Generator) -> dict[str, Any]:
    images = start.read(rows, generator.image_size).to(generator.unet.device)
    return {"images": images, "strength": start.strength}


@torch.inference_mode()
def _encoded(
    generator: Generator, rows: pl.DataFrame, batch_size: int
) -> tuple[Float[Tensor, "distinct tokens width"], list[int]]:
    """Encodings of the distinct prompts of a part, and for each row the index of its prompt among them."""
    prompts = list(prompts_of(generator, rows))
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    distinct = list(places)
    hidden = [generator.encode(distinct[start : start + batch_size]) for start in range(0, len(distinct), batch_size)]
    return torch.cat(hidden).to(generator.unet.dtype), [places[prompt] for prompt in prompts]


def prompts_of(generator: Generator, rows: pl.DataFrame) -> Iterator[Prompt]:
    """The prompt of every row of a plan."""
    wording = generator.prompts
    for findings, seed, view in rows.select("findings", "seed", "view").iter_rows():
        yield prompt_of(findings, wording, seed, view)


def check_prompts(generator: Generator, rows: pl.DataFrame) -> None:
    """Check, before the first image is sampled, that the text encoder can read every prompt of a plan."""
    for prompt in prompts_of(generator, rows.unique(["findings", "view"], maintain_order=True)):
        generator.ids(prompt)
