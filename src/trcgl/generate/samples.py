"""A grid of samples during training: the same prompts and seeds every time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from trcgl.core import storage
from trcgl.dataset.labels import LabelSpace
from trcgl.generate.pipeline import Generator
from trcgl.generate.prompts import prompt
from trcgl.generate.solver import sample

STEPS = 12


class SampleGrid:
    """A grid with a row for each prompt and a column for each seed.

    Args:
        folder: folder of the pictures, `<stage>-<step>.png`.
        space: label space; the grid shows its normal label and tail findings, or all findings if it has no tail.
    """

    def __init__(self, folder: Path, stage: str, space: LabelSpace, columns: int = 4) -> None:
        self._folder, self._stage, self._columns = folder, stage, columns
        chosen = space.in_group("tail") or space.findings
        self._findings = list(dict.fromkeys([*([space.normal] if space.normal else []), *chosen]))
        self._normal = space.normal

    def sample(self, generator: Generator, step: int, loggers: Sequence[Any]) -> None:
        """Write the grid after `step` optimizer steps to the folder and TensorBoard."""
        prompts = [prompt((finding,), self._normal) for finding in self._findings for _ in range(self._columns)]
        images = sample(
            generator, generator.encode(prompts), generator.encode_empty(), range(len(prompts)), steps=STEPS
        )
        picture = tiled(images, self._columns)
        with storage.atomic(self._folder / f"{self._stage}-{step:06d}.png") as aside:
            Image.fromarray(picture).save(aside, format="PNG")
        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", picture, step, dataformats="HW")


def tiled(images: UInt8[np.ndarray, "count height width"], columns: int) -> UInt8[np.ndarray, "rows wide"]:
    """Images side by side, row by row; the last row is filled with black images."""
    missing = -len(images) % columns
    images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
    count, height, width = images.shape
    grid = images.reshape(count // columns, columns, height, width).swapaxes(1, 2)
    return grid.reshape(count // columns * height, columns * width)
