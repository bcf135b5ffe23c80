"""Draw the images of a plan into parts on disk, on one or several processes, so that an interruption loses little.

A part holds `IMAGES_PER_PART` consecutive images. It is written whole or not at all, by the process that drew it; what
is there when the work starts again is not drawn again. An image is a function of its prompt and seed, so it does not
matter which process draws it, in which batch.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, UInt8
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from torch import Tensor

from trcgl.core import storage
from trcgl.generate.pipeline import Generator
from trcgl.generate.plan import prompt_of
from trcgl.generate.prompts import Prompt
from trcgl.generate.solver import Solver, sample
from trcgl.model.tensors import at_size
from trcgl.training.trainer import on_gpu

IMAGES_PER_PART = 128


@dataclass(frozen=True)
class Parts:
    """The parts of a store of drawn images.

    Args:
        folder: where they lie.
        count: of images in all.
    """

    folder: Path
    count: int

    def __len__(self) -> int:
        return -(-self.count // IMAGES_PER_PART)

    def rows(self, part: int) -> range:
        """The images of one part."""
        return range(part * IMAGES_PER_PART, min((part + 1) * IMAGES_PER_PART, self.count))

    def path(self, part: int) -> Path:
        """The file of one part."""
        return self.folder / f"part-{part:06d}.npy"

    def missing(self) -> list[int]:
        """The parts that are not there yet."""
        return [part for part in range(len(self)) if not self.path(part).exists()]

    def write(self, part: int, images: UInt8[np.ndarray, "part side side"]) -> None:
        """Write one part.

        Raises:
            DataError: the disk is full or the folder cannot be written to.
        """
        with storage.atomic(self.path(part)) as aside, open(aside, "wb") as handle:
            header = {"descr": "|u1", "fortran_order": False, "shape": images.shape}
            np.lib.format.write_array_header_1_0(handle, header)
            handle.write(images.tobytes())

    def read(self, part: int) -> UInt8[np.ndarray, "part side side"]:
        """The images of one part."""
        return np.load(self.path(part), allow_pickle=False)

    def clear(self) -> None:
        """Remove the parts, what killed processes left of unfinished ones, and the folder."""
        if self.folder.is_dir():
            for pattern in ("part-*.npy", ".part-*.part"):
                for one in self.folder.glob(pattern):
                    one.unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()


@dataclass(frozen=True)
class SamplingSettings:
    """How images are drawn.

    Args:
        side: of the stored images, in pixels; images are resized to it.
        steps: denoising steps.
        guided_to: log-SNR up to which classifier-free guidance steers.
        solver: DPM-Solver++ or DDIM.
        batch_size: images that are drawn at once.
    """

    side: int
    steps: int
    guided_to: float
    solver: Solver
    batch_size: int


def launch(devices: int | Literal["auto"], nodes: int, accelerator: Literal["auto", "cpu", "gpu"]) -> Fabric:
    """Start the processes that draw; under torchrun or SLURM, join those that were started."""
    gpu = on_gpu(accelerator)
    if TorchElasticEnvironment.detect():  # torchrun has decided how many there are
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    several = torch.cuda.device_count() > 1 if devices == "auto" and gpu else devices not in ("auto", 1)
    fabric = Fabric(
        accelerator="gpu" if gpu else "cpu",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if several or nodes > 1 else "auto",
    )
    fabric.launch()
    if fabric.local_rank:
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    return fabric


def end_with(parent: int) -> None:
    """End this process soon after its parent has ended, however that came: what is stopped must not draw on unseen.

    Args:
        parent: process id of the parent.
    """
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def prepare_network(
    generator: Generator, device: torch.device, precision: Literal["32-true", "bf16"], compiled: bool
) -> None:
    """Bring a generator to a device, in the precision in which it is to draw.

    Text encoder and autoencoder stay in float32: they are asked once for an image, and rounding shows there.
    """
    generator.to(device)
    # Not diffusers' own `to`, which warns about layers that others of its networks keep in float32.
    torch.nn.Module.to(generator.unet, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    if compiled:
        generator.unet.compile()


def sample_parts(
    generator: Generator, plan: pl.DataFrame, parts: Parts, todo: Sequence[int], how: SamplingSettings
) -> Iterator[int]:
    """Draw and write the parts `todo`; yields the place in the plan of each image that was drawn.

    Args:
        generator: prepared by `prepare_network`.
        plan: what to draw, with the guidance of each image.
        parts: where it goes.
        todo: numbers of the parts to draw.
        how: for all images alike.

    Raises:
        DataError: the disk is full, or a prompt is longer than the text encoder can read.
    """
    with torch.inference_mode():
        empty = generator.encode_empty().to(generator.unet.dtype)
    for part in todo:
        rows = plan[parts.rows(part).start : parts.rows(part).stop]
        hidden, places = _encoded(generator, rows, how.batch_size)
        seeds, guidance = rows["seed"].to_list(), rows["guidance"].to_list()
        drawn = []
        for start in range(0, len(seeds), how.batch_size):
            batch = slice(start, start + how.batch_size)
            images = sample(
                generator,
                hidden[places[batch]],
                empty,
                seeds[batch],
                steps=how.steps,
                guidance=guidance[batch],
                guided_to=how.guided_to,
                solver=how.solver,
            )
            drawn.append(at_size(torch.from_numpy(images), how.side).numpy())
            yield from parts.rows(part)[batch]
        parts.write(part, np.concatenate(drawn))


@torch.inference_mode()
def _encoded(
    generator: Generator, rows: pl.DataFrame, batch_size: int
) -> tuple[Float[Tensor, "distinct tokens width"], list[int]]:
    """The distinct prompts of a part, encoded once each and held no longer than the part; and which is whose."""
    prompts = prompts_of(generator, rows)
    distinct = {one: place for place, one in enumerate(dict.fromkeys(prompts))}
    asked = list(distinct)
    hidden = [generator.encode(asked[start : start + batch_size]) for start in range(0, len(asked), batch_size)]
    return torch.cat(hidden).to(generator.unet.dtype), [distinct[one] for one in prompts]


def prompts_of(generator: Generator, rows: pl.DataFrame) -> list[Prompt]:
    """The prompt of every row of a plan."""
    wanted = zip(rows["findings"].to_list(), rows["seed"].to_list(), strict=True)
    return [prompt_of(findings, generator.space, seed) for findings, seed in wanted]
