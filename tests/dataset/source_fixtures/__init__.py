"""One module per source, named like the source: `build(folder) -> Case` writes a small archive in the real layout.

Every test of `test_sources.py` runs on every source. The archive should hold what the real one does: odd encodings,
empty cells, repeated rows, missing and damaged files. At least nine patients, so that three splits can be filled.
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trcgl.dataset.sources import SOURCES


@dataclass(frozen=True)
class Case:
    """A small archive and what must come out of it.

    Args:
        root: folder of the archive; None where the source renders its images.
        present: image_id of every row that is kept, to the findings that are present in it.
        dropped: image_id to a part of the reason, for every row that is dropped.
        unknown: image_id to the findings that are unknown in it; all others not present are absent.
        unusable: image_id of kept rows whose file is missing or damaged, to a part of the reason.
        table: the label table below the root, and `column`, a column without which it cannot be read;
            None where there is no table.
        column: see `table`.
        boxes: number of boxes of kept rows; None where the archive has none.
        official: image_id to the split that the archive itself gives it.
        options: an instance of the source's `Options`; None for its defaults.
    """

    root: Path | None
    present: dict[str, set[str]]
    dropped: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, set[str]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    table: str | None = None
    column: str | None = None
    boxes: int | None = None
    official: dict[str, str] = field(default_factory=dict)
    options: Any = None


def radiograph(path: Path, size: tuple[int, int] = (40, 32), *, seed: int = 0, bits: int = 8) -> None:
    """Write a gray gradient with noise as PNG; `size` is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.05, size)
    gradient = np.clip(np.linspace(0.1, 0.9, size[1])[None] + noise, 0, 1)
    kind = np.uint8 if bits == 8 else np.uint16
    Image.fromarray((gradient * (2**bits - 1)).astype(kind)).save(path)


def build(source: str, folder: Path) -> Case:
    """Build the archive of one source of `SOURCES` in an empty folder."""
    module = SOURCES[source].rpartition(".")[2]
    return importlib.import_module(f"{__name__}.{module}").build(folder)
