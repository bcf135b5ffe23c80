"""The dataset folder, opened: label space, manifest, and every image decoded once into a memory-mapped array."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import UInt8

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.folder_kind import DATASET, SYNTHETIC, expect
from trcgl.dataset import manifest as manifests
from trcgl.dataset.labels import LabelSpace

SCHEMA = "trcgl.dataset/1"


@dataclass(frozen=True)
class Dataset:
    """A dataset folder.

    Args:
        folder: where it lies.
        info: the content of `dataset.json`.
        space: its label space, groups filled.
        manifest: validated, in the order of the file.
        images: (N, H, W) uint8, memory-mapped read-only, or None after `--manifest-only`.
        boxes: image_id, finding, x, y, w, h in fractions of the stored image, or None.
    """

    folder: Path
    info: dict[str, Any]
    space: LabelSpace
    manifest: pl.DataFrame
    images: UInt8[np.ndarray, "rows height width"] | None
    boxes: pl.DataFrame | None

    @property
    def name(self) -> str:
        """Name of the dataset, as stored."""
        return self.info["name"]

    def split(self, name: str, *, with_none: bool = False) -> pl.DataFrame:
        """The rows of one split that take part.

        Raises:
            DataError: the split is unknown or empty.
        """
        rows = manifests.taking_part(self.manifest.filter(pl.col("split") == name), with_none=with_none)
        if not rows.height:
            raise DataError(f"{self.folder}: split {name!r} has no rows; splits are {', '.join(manifests.SPLITS)}.")
        return rows

    def require_images(self) -> UInt8[np.ndarray, "rows height width"]:
        """The images.

        Raises:
            DataError: the dataset was prepared with `--manifest-only`.
        """
        if self.images is None:
            raise DataError(f"{self.folder} holds labels only (--manifest-only). Prepare it again with the images.")
        return self.images


def open_dataset(folder: Path) -> Dataset:
    """Open a dataset folder and check that its files belong together.

        dataset = trcgl.open_dataset("nih")
        dataset.split("train").height                            # number of training images

    Args:
        folder: a folder that `trcgl prepare` wrote.

    Raises:
        DataError: a file is missing, damaged, of another schema, or not the one that `prepare` wrote.
    """
    folder = Path(folder)
    expect(folder, DATASET, SYNTHETIC)
    info = storage.read_json(folder / "dataset.json")
    if info.get("schema") != SCHEMA:
        raise DataError(f"{folder}/dataset.json: schema {info.get('schema')!r}, expected {SCHEMA!r}. Prepare it again.")
    for name, known in info["files"].items():
        path = folder / name
        if not path.exists():
            raise DataError(f"{path} is missing. Prepare the dataset again.")
        # The store is large: its size is checked on opening, its digest by `trcgl describe`.
        same_size = path.stat().st_size == known["bytes"]
        same = same_size and (name == "images.npy" or storage.sha256_file(path) == known["sha256"])
        if not same:
            raise DataError(f"{path} is not the file that `prepare` wrote. Prepare the dataset again.")
    space = LabelSpace.from_dict(info["label_space"])
    manifest = manifests.validate(_read(folder / "manifest.parquet"), space, where=str(folder / "manifest.parquet"))
    images = np.load(folder / "images.npy", mmap_mode="r") if "images.npy" in info["files"] else None
    if images is not None and (images.dtype != np.uint8 or images.ndim != 3):
        raise DataError(f"{folder}/images.npy is {images.dtype} {images.shape}, not uint8 (N, H, W). Prepare it again.")
    if images is not None and manifest["row"].sort().to_list() != list(range(len(images))):
        raise DataError(f"{folder}: the rows of manifest.parquet are not those of images.npy. Prepare it again.")
    boxes = _read(folder / "boxes.parquet") if "boxes.parquet" in info["files"] else None
    return Dataset(folder, info, space, manifest, images, boxes)


def write_images(path: Path, parts: Iterable[UInt8[np.ndarray, "rows side side"]], count: int, side: int) -> None:
    """Write `images.npy` from its parts, one after the other and whole or not at all.

    Args:
        path: the file.
        parts: `count` square images in all.
        count: of images.
        side: of each, in pixels.

    Raises:
        DataError: the disk is full or the folder cannot be written to.
    """
    with storage.atomic(path) as aside, open(aside, "wb") as handle:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side)}
        np.lib.format.write_array_header_1_0(handle, header)
        for part in parts:
            handle.write(part.tobytes())


def check_space(out: Path, count: int, side: int, advice: str) -> None:
    """Refuse to begin what the disk cannot hold: the parts of a store and the store, side by side at the end.

    Args:
        out: the folder to write, which may hold some of the parts already, in `parts/`.
        count: of images.
        side: of each, in pixels.
        advice: what else to change, for the message.

    Raises:
        DataError: there is too little space.
    """
    needed = 2 * count * side * side
    there = next(one for one in (out, *out.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free + sum(one.stat().st_size for one in (out / "parts").glob("part-*"))
    if free < needed:
        raise DataError(
            f"{out}: {count} images of {side} px need {needed / 2**30:.1f} GiB while they are made and "
            f"{free / 2**30:.1f} GiB are free. Free some space, choose another --out, or {advice}."
        )


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}). Prepare the dataset again.") from error
