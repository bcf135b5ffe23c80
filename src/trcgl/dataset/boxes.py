"""Boxes around findings: from pixels of the archive's files to fractions of the stored square images."""

from typing import Literal

import polars as pl

from trcgl.dataset.sources import SourceTable
from trcgl.imaging.orientation import TURNS

COLUMNS = ("image_id", "finding", "x", "y", "w", "h")


def to_fractions(
    table: SourceTable, manifest: pl.DataFrame, pixels: pl.DataFrame | None, fit: Literal["letterbox", "squash"]
) -> tuple[pl.DataFrame | None, pl.DataFrame]:
    """Transform the boxes of a source in the same way as its images.

    Args:
        table: the source; its boxes are x, y, w, h with the origin at the top left.
        manifest: rows of the dataset.
        pixels: original height and width, turn, placement and side of every image; None if the dataset has no images,
            in which case boxes need the `box_frame` of the source.
        fit: how images are made square.

    Returns:
        image_id, finding, x, y, w, h in fractions of the stored image, cut at its border, or None without boxes; and
        image_id, finding, reason of every dropped box.
    """
    nothing = pl.DataFrame(schema={"image_id": pl.String, "finding": pl.String, "reason": pl.String})
    if table.boxes is None or (pixels is None and table.box_frame is None):
        return None, nothing
    boxes = table.boxes.join(manifest.select("image_id", kept=pl.lit(True)), on="image_id", how="left")
    if pixels is not None:
        boxes = boxes.join(pixels.drop("kind", "low", "high"), on="image_id", how="left")
        if table.box_frame is not None:
            height, width = table.box_frame
            boxes = _scaled(boxes, pl.col("width") / width, pl.col("height") / height)
        boxes = _upright(boxes)
        boxes = boxes.with_columns(
            x=(pl.col("x") * pl.col("scale_x") + pl.col("offset_x")) / pl.col("side"),
            y=(pl.col("y") * pl.col("scale_y") + pl.col("offset_y")) / pl.col("side"),
            w=pl.col("w") * pl.col("scale_x") / pl.col("side"),
            h=pl.col("h") * pl.col("scale_y") / pl.col("side"),
        )
    else:
        height, width = table.box_frame or (1, 1)
        along_x, along_y = (width, height) if fit == "squash" else (max(height, width), max(height, width))
        boxes = _scaled(boxes, pl.lit(1 / along_x), pl.lit(1 / along_y)).with_columns(
            x=pl.col("x") + (1 - width / along_x) / 2, y=pl.col("y") + (1 - height / along_y) / 2
        )
    boxes = boxes.with_columns(
        left=pl.col("x").clip(0, 1),
        top=pl.col("y").clip(0, 1),
        right=(pl.col("x") + pl.col("w")).clip(0, 1),
        bottom=(pl.col("y") + pl.col("h")).clip(0, 1),
    ).with_columns(
        reason=pl.when(pl.col("kept").is_null())
        .then(pl.lit("its image is not in the dataset"))
        .when(~((pl.col("right") > pl.col("left")) & (pl.col("bottom") > pl.col("top"))).fill_null(False))
        .then(pl.lit("it is empty or outside its image"))
    )
    size = {"w": pl.col("right") - pl.col("left"), "h": pl.col("bottom") - pl.col("top")}
    kept = boxes.filter(pl.col("reason").is_null()).select("image_id", "finding", x="left", y="top", **size)
    return kept, boxes.filter(pl.col("reason").is_not_null()).select("image_id", "finding", "reason")


def _scaled(boxes: pl.DataFrame, along_x: pl.Expr, along_y: pl.Expr) -> pl.DataFrame:
    return boxes.with_columns(
        x=pl.col("x") * along_x, y=pl.col("y") * along_y, w=pl.col("w") * along_x, h=pl.col("h") * along_y
    )


def _upright(boxes: pl.DataFrame) -> pl.DataFrame:
    """Turn boxes in the same way as their images, see `imaging.orientation.TURNS`."""
    steps = ("exchanged", "flipped_rows", "flipped_columns")
    for place, step in enumerate(steps):
        boxes = boxes.with_columns(pl.col("turn").is_in([turn for turn in TURNS if TURNS[turn][place]]).alias(step))
    pairs = (("x", "y"), ("w", "h"), ("width", "height"))
    exchanged = [
        pl.when("exchanged").then(to).otherwise(of).alias(of) for pair in pairs for of, to in (pair, pair[::-1])
    ]
    return (
        boxes.with_columns(exchanged)
        .with_columns(
            x=pl.when("flipped_columns").then(pl.col("width") - pl.col("x") - pl.col("w")).otherwise("x"),
            y=pl.when("flipped_rows").then(pl.col("height") - pl.col("y") - pl.col("h")).otherwise("y"),
        )
        .drop(*steps)
    )
