"""Sources: a module per archive with a frozen dataclass `Options` and `read(root, options) -> SourceTable`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import UInt8

from trcgl.core.errors import Reason
from trcgl.dataset.labels import LabelSpace

SOURCES = {
    "padchest": "trcgl.dataset.sources.padchest",
    "cxr-lt-2026": "trcgl.dataset.sources.cxr_lt_2026",
    "nih": "trcgl.dataset.sources.nih",
    "chexpert": "trcgl.dataset.sources.chexpert",
    "mimic-cxr-lt": "trcgl.dataset.sources.mimic_cxr_lt",
    "vindr": "trcgl.dataset.sources.vindr",
    "chestmnist": "trcgl.dataset.sources.chestmnist",
    "table": "trcgl.dataset.sources.table",
    "phantom": "trcgl.dataset.sources.phantom",
}
"""Name on the command line to module; a module is imported on first use."""


def comma_separated(text: str) -> tuple[str, ...]:
    """Names from a text in which commas separate them."""
    return tuple(name.strip() for name in text.split(","))


@dataclass(frozen=True)
class SourceTable:
    """Labels and files of an archive, before patients are split and images decoded.

    Args:
        space: the label space; groups may be empty unless its rule is `name`.
        rows: image_id, patient_id, study_id, view, label_source, age, sex, path, set_aside, weight, `split`
            (null where the archive has no official split for that row) and one Int8 column per finding.
        dropped: image_id and reason of every row that was left out.
        boxes: image_id, finding, x, y, w, h in pixels of the file as distributed, or None.
        load: renders or fetches the image of row i of `rows`, for archives without a file per image; else None. It is
            sent to worker processes, so it must pickle: a module-level function or a `functools.partial`.
        counts: numbers for the report, for instance how many labels were repeated.
        root: folder that `path` is relative to; None for the given root.
        box_frame: (height, width) of the images that the boxes refer to, where files may have been resized since; None
            if boxes are in pixels of each file.
        license: one sentence on the terms of the archive.
        notes: facts about the labels that a reader of results must know.
        notices: what looks wrong in the table or was understood in a way that its owner should check; printed.
        accept: reasons of `core.errors.REASONS` for which the files of the source are not refused.
        missing: path of a file that was not found to the reason, where more is known than that it is not there.
        headline: the metric whose mean over findings ranks methods on this archive; reports state it first.
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
    notices: tuple[str, ...] = ()
    accept: frozenset[Reason] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)
    headline: Literal["AUC", "AP"] = "AUC"
