"""The dataset folder: label space, manifest, and every image decoded once into a memory-mapped array."""

import shutil
from collections.abc import Collection, Iterable
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
    """An open dataset folder.

    Args:
        info: content of `dataset.json`.
        space: label space with its groups.
        manifest: one row per image, validated, in the order of the file.
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

    def table(self, split: str | None = None, *, with_none: bool = False) -> pl.DataFrame:
        """The manifest as a table: one row per image, one Int8 column per finding (1 present, 0 absent, null unknown).

        The pixels of the rows are `dataset.images[table["row"]]`.

        Args:
            split: `train`, `val` or `test`; None for all images.
            with_none: include images that were set aside because no finding of the label space is known.

        Raises:
            DataError: the split is unknown or empty.
        """
        if split is not None:
            return self.split(split, with_none=with_none)
        return manifests.taking_part(self.manifest, with_none=with_none)

    def to_pandas(self, split: str | None = None, *, with_none: bool = False) -> Any:
        """`table` as a pandas DataFrame with nullable types: an unknown label is `<NA>`.

        Raises:
            DataError: pandas is not installed, or the split is unknown or empty.
        """
        try:
            import pandas
        except ImportError as error:
            raise DataError("to_pandas needs pandas. Run: pip install pandas") from error
        columns = self.table(split, with_none=with_none).to_dict(as_series=False)
        return pandas.DataFrame(columns).convert_dtypes()

    def split(self, name: str, *, with_none: bool = False, views: Collection[str] = ()) -> pl.DataFrame:
        """The rows of one split that take part in training and evaluation.

        Args:
            name: `train`, `val` or `test`.
            with_none: include images that were set aside because no finding of the label space is known.
            views: `frontal`, `lateral` or `other`: the views to keep; empty keeps every image.

        Raises:
            DataError: the split is unknown or empty, or has no image of these views.
        """
        rows = manifests.taking_part(self.manifest.filter(pl.col("split") == name), with_none=with_none)
        if not rows.height:
            raise DataError(f"{self.folder}: split {name!r} has no rows; splits are {', '.join(manifests.SPLITS)}.")
        return manifests.of_views(rows, views, f"{self.folder}: {name}")

    def require_images(self) -> UInt8[np.ndarray, "rows height width"]:
        """The images, for work that cannot do without them.

        Raises:
            DataError: the dataset was prepared with `--manifest-only`.
        """
        if self.images is None:
            raise DataError(f"{self.folder} has labels only (--manifest-only). Prepare it again with the images.")
        return self.images


def open_dataset(folder: str | Path) -> Dataset:
    """Open a dataset folder and check that its files belong together.

        dataset = trcgl.open_dataset("nih")
        dataset.split("train").height                            # number of training images

    Args:
        folder: a folder that `trcgl prepare` wrote.

    Raises:
        DataError: a file is missing, damaged, changed since `prepare` wrote it, or of another schema.
    """
    folder = Path(folder)
    expect(folder, DATASET, SYNTHETIC)
    info = storage.read_json(folder / "dataset.json")
    if info.get("schema") != SCHEMA:
        raise DataError(f"{folder}/dataset.json: schema {info.get('schema')!r}, expected {SCHEMA!r}. Prepare it again.")
    for name, stored in info["files"].items():
        path = folder / name
        if not path.exists():
            raise DataError(f"{path} is missing. Prepare the dataset again.")
        # images.npy is large: its size is checked here, its digest by `trcgl describe`.
        same_size = path.stat().st_size == stored["bytes"]
        same = same_size and (name == "images.npy" or storage.sha256_file(path) == stored["sha256"])
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
    """Write `images.npy` from parts of `count` images in total; on failure no file is left."""
    with storage.atomic(path) as aside, open(aside, "wb") as handle:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side)}
        np.lib.format.write_array_header_1_0(handle, header)
        for part in parts:
            handle.write(part.tobytes())


def file_table(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The entry `files` of `dataset.json`, by which `open_dataset` recognizes each file."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": storage.sha256_file(folder / name)} for name in names
    }


def split_table(manifest: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """The entry `splits` of `dataset.json`: images, patients and a digest of the patients of each split."""
    splits = {}
    for name in manifests.SPLITS:
        patients = manifest.filter(pl.col("split") == name)["patient_id"]
        unique = patients.unique().to_list()
        splits[name] = {"images": len(patients), "patients": len(unique), "patient_digest": storage.digest(unique)}
    return splits


def check_space(out: Path, count: int, side: int, advice: str) -> None:
    """Refuse to start where the disk cannot hold the parts and `images.npy`, which exist side by side at the end.

    `out`: the folder to write; parts that it already has, in `parts/`, count as free space. `advice`: another way out,
    for the message.
    """
    needed = 2 * count * side * side
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free + sum(part.stat().st_size for part in (out / "parts").glob("part-*"))
    if free < needed:
        raise DataError(
            f"{out}: {count} images of {side} px need {needed / 2**30:.1f} GiB during preparation, but "
            f"{free / 2**30:.1f} GiB are free. Free some space, choose another --out, or {advice}."
        )


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}). Prepare the dataset again.") from error
