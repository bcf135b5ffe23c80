"""The control of drawn images: as many copies of the real images whose label sets they were drawn for."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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
    manifest = copied.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64), weight=pl.lit(1.0)).select(
        drawn.manifest.columns
    )
    images, rows = real.require_images(), copied["source_row"].to_numpy()
    parts, name = (images[row][None] for row in rows), f"copies for {drawn.name}"
    write_stand_ins(
        out, drawn, manifest, parts, images.shape[1], name=name, about={"pixel_rule": real.info.get("pixel_rule")}
    )


def write_stand_ins(
    out: Path,
    drawn: Dataset,
    manifest: pl.DataFrame,
    parts: Iterable[UInt8[np.ndarray, "rows side side"]],
    side: int,
    *,
    name: str,
    about: Mapping[str, Any],
) -> None:
    """Write a synthetic folder with the provenance of another, whose images others stand in for.

    Args:
        out: the folder; its `dataset.json` is written last.
        drawn: the other folder.
        manifest: its rows in its order, `row` counted from 0.
        parts: the images, in that order.
        side: of each image, in pixels.
        name: of the folder.
        about: what `dataset.json` says otherwise than that of the other folder.
    """
    write_images(out / "images.npy", parts, manifest.height, side)
    provenance = pl.read_parquet(drawn.folder / "provenance.parquet")
    for file, frame in (("manifest.parquet", manifest), ("provenance.parquet", provenance)):
        with run.atomic(out / file) as aside:
            frame.write_parquet(aside)
    files = {file: {"bytes": (out / file).stat().st_size, "sha256": run.sha256_file(out / file)} for file in FILES}
    run.write_json(out / "dataset.json", {**drawn.info, "name": name, "files": files, **about})
