"""One file per archive: a frozen dataclass `Options` and `read(root, options) -> SourceTable`; `prepare` goes on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import UInt8

from trcgl.dataset.labels import LabelSpace

SOURCES = {
    "padchest": "trcgl.dataset.sources.padchest",
    "nih": "trcgl.dataset.sources.nih",
    "chexpert": "trcgl.dataset.sources.chexpert",
    "mimic-cxr-lt": "trcgl.dataset.sources.mimic_cxr_lt",
    "vindr": "trcgl.dataset.sources.vindr",
    "chestmnist": "trcgl.dataset.sources.chestmnist",
    "table": "trcgl.dataset.sources.table",
    "phantom": "trcgl.dataset.sources.phantom",
}
"""Name on the command line to module; a module is imported only when it is asked for."""


@dataclass(frozen=True)
class SourceTable:
    """What a source says about its archive, before splitting and decoding.

    Args:
        space: the label space; groups may be empty unless its rule is `name`.
        rows: image_id, patient_id, study_id, view, label_source, age, sex, path, set_aside, weight, `split`
            (null where the archive has no official split for that row) and one Int8 column per finding.
        dropped: image_id and reason of every row that was left out.
        boxes: image_id, finding, x, y, w, h in pixels of the file as distributed, or None.
        load: draws or fetches the picture of row i of `rows` where the archive has no file per image; else None.
            It is sent to worker processes, so it must pickle: a module-level function or `functools.partial` of one.
        counts: figures worth reporting, for instance how many labels were repeated.
        root: the folder that `path` is relative to, where it is not the root that was given.
        box_frame: (height, width) of the image that the boxes were drawn on, where the files may have been
            resized since; None if boxes are in the pixels of each file.
        license: one sentence on the terms of the archive.
        notes: what a reader of the numbers must know about these labels.
    """

    space: LabelSpace
    rows: pl.DataFrame
    dropped: pl.DataFrame
    boxes: pl.DataFrame | None = None
    load: Callable[[int], UInt8[np.ndarray, "height width"]] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    root: Path | None = None
    box_frame: tuple[int, int] | None = None
    license: str = ""
    notes: tuple[str, ...] = ()
