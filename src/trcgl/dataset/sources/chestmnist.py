"""ChestMNIST (MedMNIST v2, Yang et al., Scientific Data 2023): ChestX-ray14 in 28, 64, 128 or 224 px, as one npz file.

14 findings, 78,468 / 11,219 / 22,433 images in MedMNIST's own train, val and test. It has no patient identifiers, so
every image counts as its own patient: a patient of ChestX-ray14 may be in several splits, which makes scores too high
and intervals too narrow.
"""

import functools
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import UInt8

from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SPLITS
from trcgl.dataset.sources import SourceTable, comma_separated, reading

FILES = {224: "chestmnist_224.npz", 128: "chestmnist_128.npz", 64: "chestmnist_64.npz", 28: "chestmnist.npz"}
FINDINGS = comma_separated(
    "Atelectasis, Cardiomegaly, Effusion, Infiltration, Mass, Nodule, Pneumonia, Pneumothorax, Consolidation, Edema, "
    "Emphysema, Fibrosis, Pleural_Thickening, Hernia"
)
"""Findings in the order of the label columns, with NIH's names."""
SPACE = LabelSpace(
    name="chestmnist14", findings=FINDINGS, raw={name: (name.split("_")[0].lower(),) for name in FINDINGS}
)


@dataclass(frozen=True)
class Options:
    """Options of the ChestMNIST source."""

    size: Literal[0, 28, 64, 128, 224] = 0
    """Image side in pixels, which selects the npz file; 0: the largest file present."""


def read(root: Path, options: Options | None = None) -> SourceTable:
    """Read the labels of `chestmnist*.npz`; images are fetched from it when `prepare` asks for them."""
    root, options = Path(root), options or Options()
    names = [name for size, name in FILES.items() if options.size in (0, size)]
    path = reading.find_file(root, names, "ChestMNIST file")
    tables = []
    for split in SPLITS:
        labels, images = _array(path, f"{split}_labels"), _shape(path, f"{split}_images")
        if labels.ndim != 2 or labels.shape[1] != len(FINDINGS) or not np.isin(labels, (0, 1)).all():
            raise DataError(f"{path}: {split}_labels is not 0 or 1 for {len(FINDINGS)} findings. Download it again.")
        if len(images) != 3 or images[0] != len(labels):
            raise DataError(f"{path}: {split}_images {images} do not match {len(labels)} labels. Download it again.")
        table = pl.DataFrame(labels.astype(np.int8), schema=list(FINDINGS))
        number = pl.int_range(len(labels)).cast(pl.String).str.zfill(6)
        tables.append(table.with_columns(image_id=pl.format(f"{split}_{{}}", number), split=pl.lit(split)))
    rows = pl.concat(tables).with_columns(patient_id="image_id", view=pl.lit("frontal"), label_source=pl.lit("report"))
    return SourceTable(
        space=SPACE,
        rows=reading.in_order(rows, SPACE),
        dropped=pl.DataFrame(schema=reading.DROPPED_SCHEMA),
        load=functools.partial(_load, path, tuple(table.height for table in tables)),
        counts={f"images in {split}": table.height for split, table in zip(SPLITS, tables, strict=True)},
        root=root,
        license="CC BY 4.0 (MedMNIST v2); the radiographs are NIH's, free use with attribution.",
        notes=(
            "MedMNIST publishes no patient identifiers: every image counts as its own patient, so patients may lie in "
            "several splits and intervals are too narrow.",
            "A row without any finding is a negative of all 14.",
        ),
    )


def _load(path: Path, lengths: tuple[int, ...], row: int) -> UInt8[np.ndarray, "height width"]:
    """The image of a row; rows run through train, val and test."""
    for split, length in zip(SPLITS, lengths, strict=True):
        if row < length:
            return _images(path, split)[row]
        row -= length
    raise IndexError(row)


@functools.lru_cache(maxsize=1)
def _images(path: Path, split: str) -> UInt8[np.ndarray, "images height width"]:
    images = _array(path, f"{split}_images")
    if images.dtype != np.uint8:
        raise DataError(f"{path}: {split}_images is {images.dtype}, not uint8. Download it again.")
    return images


def _array(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if name not in arrays.files:
                raise DataError(f"{path}: array {name!r} is missing; there are {', '.join(arrays.files)}.")
            return arrays[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise DataError(f"{path}: cannot be read as an npz file ({error}). Download it again.") from error


def _shape(path: Path, name: str) -> tuple[int, ...]:
    """Shape of an array, read from its header only: the images of a split can be gigabytes."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return header(stream)[0]
    except KeyError as error:
        raise DataError(f"{path}: array {name!r} is missing. Download it again.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as an npz file ({error}). Download it again.") from error
