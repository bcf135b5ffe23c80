"""A grid of samples during training: the same prompts and seeds every time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from trcgl.core import storage
from trcgl.generate.pipeline import Generator
from trcgl.generate.prompts import VIEWS
from trcgl.generate.solver import sample

STEPS = 12
COLUMNS = 4


def sample_grid(generator: Generator, path: Path, step: int, loggers: Sequence[Any]) -> None:
    """Write a grid to a PNG file and to TensorBoard: a row for the normal label and each tail finding.

    Without a tail, there is a row for every finding. Columns have different seeds.
    """
    space = generator.space
    chosen = space.in_group("tail") or space.findings
    findings = dict.fromkeys([*([space.normal] if space.normal else []), *chosen])
    prompts = [generator.prompts.prompt((finding,), VIEWS[0]) for finding in findings for _ in range(COLUMNS)]
    images = sample(generator, generator.encode(prompts), generator.encode_empty(), range(len(prompts)), steps=STEPS)
    picture = tiled(images, COLUMNS)
    with storage.atomic(path) as aside:
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
