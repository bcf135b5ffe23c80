"""The control of drawn images: as many copies of the real images whose label sets they were drawn for."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import UInt8

from trcgl.core import run
from trcgl.core.errors import DataError
from trcgl.data.drawn import open_drawn
from trcgl.data.store import Dataset, write_images

FILES = ("images.npy", "manifest.parquet", "provenance.parquet")


def duplicate(synthetic: Path, real: Dataset, out: Path) -> None:
    """Write a synthetic folder in which each drawn image is replaced by its source, a real training image.

    Rows, targets, verdicts and order stay, so that doses, schedule and the number of images shown are those of the
    drawn ones. A copy has all labels of its source, known negatives too: that is what duplicating a real row means.

    Args:
        synthetic: written by `trcgl synthesize` for the dataset.
        real: the dataset.
        out: the folder to write, unless it is there already.

    Raises:
        DataError: the folder was drawn for another dataset, or does not say for which images it was drawn.
    """
    if (out / "dataset.json").exists():
        return
    drawn = open_drawn(synthetic, real).dataset
    provenance = pl.read_parquet(synthetic / "provenance.parquet")
    if "source_image_id" not in provenance.columns:
        raise DataError(f"{synthetic}/provenance.parquet has no source_image_id. Draw again.")
    sources = drawn.manifest.select("image_id").join(
        provenance.select("image_id", "source_image_id"), on="image_id", how="left", maintain_order="left"
    )
    train = real.manifest.filter(pl.col("split") == "train")
    copied = sources.join(
        train.rename({"image_id": "source_image_id", "row": "source_row"}),
        on="source_image_id",
        how="left",
        maintain_order="left",
    )
    if lost := copied.filter(pl.col("source_row").is_null())["source_image_id"].to_list():
        raise DataError(f"{synthetic}: {lost[0]!r}, which images were drawn for, is no train image of {real.folder}.")
    images, rows = real.require_images(), copied["source_row"].to_list()
    rule = {**drawn.info, "pixel_rule": real.info.get("pixel_rule")}
    write_folder(
        out,
        replace(drawn, info=rule),
        f"copies for {drawn.name}",
        copied.with_columns(weight=pl.lit(1.0)),
        provenance,
        (images[row][None] for row in rows),
    )


def write_folder(
    out: Path,
    like: Dataset,
    name: str,
    manifest: pl.DataFrame,
    provenance: pl.DataFrame,
    images: Iterable[UInt8[np.ndarray, "rows side side"]],
) -> None:
    """Write a folder in the format of a synthetic one, `dataset.json` last.

    Args:
        out: the folder to write.
        like: a synthetic folder of the same real dataset.
        name: of the new one.
        manifest: columns as in `like`, in the order of the images.
        provenance: image_id, target and verdict at least.
        images: one or more at a time, as many as rows.
    """
    manifest = manifest.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).select(like.manifest.columns)
    write_images(out / "images.npy", images, manifest.height, like.require_images().shape[1])
    for file, frame in (("manifest.parquet", manifest), ("provenance.parquet", provenance)):
        with run.atomic(out / file) as aside:
            frame.write_parquet(aside)
    files = {file: {"bytes": (out / file).stat().st_size, "sha256": run.sha256_file(out / file)} for file in FILES}
    run.write_json(out / "dataset.json", {**like.info, "name": name, "files": files})
