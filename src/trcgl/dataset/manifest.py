"""The manifest: a validated table with a row per radiograph, which every later step reads."""

from collections.abc import Collection
from pathlib import PurePosixPath

import numpy as np
import polars as pl
from jaxtyping import Float

from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace

SPLITS = ("train", "val", "test")

SCHEMA: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "patient_id": pl.String(),  # always text: those of PadChest have 39 digits
    "study_id": pl.String(),
    "view": pl.String(),  # frontal | lateral | other, or null
    "split": pl.String(),
    "label_source": pl.String(),
    "age": pl.Float64(),  # years
    "sex": pl.String(),  # F | M, or null
    "path": pl.String(),  # relative to the archive's root, with forward slashes
    "sha256": pl.String(),  # of the file; null where images are absent
    "row": pl.Int64(),  # row of images.npy; null where images are absent
    "set_aside": pl.String(),  # reason why the row is used only `with_none`; null for most
    "weight": pl.Float64(),  # weight in metrics; 1 except in phantoms, whose val and test have other prevalences
}
"""Columns before the findings. Each finding is one Int8 column: 1 present, 0 absent, null unknown."""


def validate(manifest: pl.DataFrame, space: LabelSpace, *, where: str = "manifest") -> pl.DataFrame:
    """Check a manifest against its label space and return it with its columns in order.

    Raises:
        DataError: a column is missing, unknown or of the wrong type; an image_id occurs twice; a path leads outside the
            root; a label is not 0, 1 or null; a patient is in two splits. The message names the first such row.
    """
    expected = {**SCHEMA, **{finding: pl.Int8() for finding in space.findings}}
    if missing := [name for name in expected if name not in manifest.columns]:
        raise DataError(f"{where}: column {missing[0]!r} is missing. Prepare the dataset again.")
    if unknown := [name for name in manifest.columns if name not in expected]:
        raise DataError(
            f"{where}: unknown column {unknown[0]!r}; the label space {space.name} has {', '.join(space.findings)}."
        )
    manifest = manifest.select(*expected)
    for name, kind in expected.items():
        if manifest.schema[name] != kind:
            raise DataError(f"{where}: column {name!r} is {manifest.schema[name]}, not {kind}.")
    for name in ("image_id", "patient_id"):
        if manifest[name].null_count():
            raise DataError(f"{where}: row {manifest[name].is_null().arg_true()[0]} has no {name}.")
    if (twice := manifest.filter(pl.col("image_id").is_duplicated())).height:
        raise DataError(f"{where}: image_id {twice['image_id'][0]!r} occurs more than once; each must be unique.")
    for path in manifest["path"].drop_nulls():
        check_path(path, where)
    if (bad := manifest.filter(~pl.col("split").is_in(SPLITS) | pl.col("split").is_null())).height:
        raise DataError(f"{where}: image {bad['image_id'][0]!r} has split {bad['split'][0]!r}, not train, val or test.")
    for finding in space.findings:
        if (bad := manifest.filter(~pl.col(finding).is_in([0, 1]))).height:
            image, value = bad["image_id"][0], bad[finding][0]
            raise DataError(f"{where}: image {image!r} has {finding} = {value}, not 0, 1 or null.")
    check_leak(manifest, where)
    return manifest


def check_path(path: str, where: str) -> None:
    """Raise a DataError for a path that is absolute or leads outside the archive's root."""
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (len(path) > 1 and path[1] == ":"):
        raise DataError(f"{where}: path {path!r} is absolute or leads outside the root; paths are relative to --root.")


def check_leak(manifest: pl.DataFrame, where: str = "manifest") -> None:
    """Raise a DataError that names the first patient in two splits, and the number of such patients."""
    leaked = manifest.group_by("patient_id").agg(pl.col("split").unique().sort()).filter(pl.col("split").list.len() > 1)
    if leaked.height:
        first = leaked.sort("patient_id").row(0, named=True)
        raise DataError(
            f"{where}: patient {first['patient_id']!r} is in {' and '.join(first['split'])} "
            f"({leaked.height} such patients). Split by patient: one patient, one split."
        )


def label_array(manifest: pl.DataFrame, space: LabelSpace) -> Float[np.ndarray, "rows findings"]:
    """Labels as float32: 1 present, 0 absent, NaN unknown."""
    columns = [manifest[finding].cast(pl.Float32).fill_null(float("nan")).to_numpy() for finding in space.findings]
    return np.stack(columns, axis=1) if manifest.height else np.empty((0, len(space.findings)), np.float32)


def of_views(manifest: pl.DataFrame, views: Collection[str], where: str = "manifest") -> pl.DataFrame:
    """The rows of some views (`frontal`, `lateral`, `other`); no view named means all rows.

    Raises:
        DataError: no row has one of these views; the message begins with `where` and names the column.
    """
    if not views:
        return manifest
    rows = manifest.filter(pl.col("view").is_in(list(views)).fill_null(False))
    if rows.height:
        return rows
    stated = ", ".join(manifest["view"].drop_nulls().unique().sort())
    if stated:
        raise DataError(f"{where} has no {' or '.join(views)} image: column 'view' holds {stated}. Name one of these.")
    raise DataError(
        f"{where} has no {' or '.join(views)} image, because column 'view' of the manifest is empty. Prepare the "
        "dataset with its views (of a table: --source.view-column), or give --train.views and --evaluate.views without "
        "a value."
    )


def taking_part(manifest: pl.DataFrame, *, with_none: bool = False) -> pl.DataFrame:
    """The rows for training and evaluation: rows that are not set aside, or all rows with `with_none`."""
    return manifest if with_none else manifest.filter(pl.col("set_aside").is_null())
