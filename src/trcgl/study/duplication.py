"""The control of drawn images: as many copies of the real images whose label sets they were drawn for."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import open_synthetic, read_provenance
from trcgl.study.training_variants import write_folder


def duplicate(synthetic: Path, real: Dataset, out: Path, *, masked: bool = False) -> None:
    """Write a synthetic folder in which each drawn image is replaced by its source, a real training image.

    Rows, targets, verdicts and order stay, so that doses, schedule and the number of images shown are those of the
    drawn ones. A copy has all labels of its source, known negatives too: that is what duplicating a real row means.

    Args:
        synthetic: written by `trcgl synthesize` for the dataset.
        real: the dataset.
        out: the folder to write, unless it is there already.
        masked: a copy has the labels of the drawn image instead: what was asked for is known, and nothing else.

    Raises:
        DataError: the folder was drawn for another dataset, or does not say for which images it was drawn.
    """
    if (out / "dataset.json").exists():
        return
    drawn = open_synthetic(synthetic, real).dataset
    provenance = read_provenance(synthetic)
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
    if masked:
        copied = copied.with_columns(drawn.manifest.select(real.space.findings))
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
