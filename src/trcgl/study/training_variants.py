"""Synthetic folders that the control arms of `utility` train with: duplicates, or synthetic images with one change.

Every folder has as many rows for each target as the folder it is compared with, so that nothing else differs. A folder
that is finished is not written again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from jaxtyping import Int, UInt8

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator as randomness
from trcgl.dataset.store import Dataset, file_table, write_images
from trcgl.dataset.synthetic_rows import KEPT, open_synthetic, read_provenance

if TYPE_CHECKING:
    from trcgl.generate.pipeline import Generator

FILES = ("images.npy", "manifest.parquet", "provenance.parquet")


def write_folder(
    out: Path,
    like: Dataset,
    name: str,
    manifest: pl.DataFrame,
    provenance: pl.DataFrame,
    images: Iterable[UInt8[np.ndarray, "rows side side"]],
) -> None:
    """Write a folder in the format of the synthetic folder `like`, `dataset.json` last.

    The manifest has the columns of that of `like`, in the order of the images; the provenance has image_id, target and
    verdict at least; `images` are arrays of one or more images.
    """
    manifest = manifest.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).select(like.manifest.columns)
    write_images(out / "images.npy", images, manifest.height, like.require_images().shape[1])
    storage.write_parquet(out / "manifest.parquet", manifest)
    storage.write_parquet(out / "provenance.parquet", provenance)
    storage.write_json(out / "dataset.json", {**like.info, "name": name, "files": file_table(out, FILES)})


def finished(out: Path) -> bool:
    """Whether a folder of `write_folder` is complete."""
    return (out / "dataset.json").exists()


def duplicate(synthetic: Path, real: Dataset, out: Path, *, masked: bool = False) -> None:
    """Replace each synthetic image by a duplicate of its source, the real training image with the same label set.

    Rows, targets, verdicts and order stay, so that doses, schedule and number of images shown are the same. A duplicate
    has all labels of its source, including known negatives; if `masked`, it has the labels of the synthetic image: the
    requested labels are known, all others unknown.

    Raises:
        DataError: the folder belongs to another dataset, or does not name the source images.
    """
    if finished(out):
        return
    opened = open_synthetic(synthetic, real).dataset
    provenance = read_provenance(synthetic)
    if "source_image_id" not in provenance.columns:
        raise DataError(f"{synthetic}/provenance.parquet has no source_image_id. Run `trcgl synthesize` again.")
    train = real.manifest.filter(pl.col("split") == "train").rename(
        {"image_id": "source_image_id", "row": "source_row"}
    )
    copied = (
        opened.manifest.select("image_id")
        .join(provenance.select("image_id", "source_image_id"), on="image_id", how="left", maintain_order="left")
        .join(train, on="source_image_id", how="left", maintain_order="left")
    )
    if lost := copied.filter(pl.col("source_row").is_null())["source_image_id"].to_list():
        raise DataError(f"{synthetic}: the source image {lost[0]!r} is no train image of {real.folder}.")
    if masked:
        copied = copied.with_columns(opened.manifest.select(real.space.findings))
    images, rows = real.require_images(), copied["source_row"].to_list()
    write_folder(
        out,
        replace(opened, info={**opened.info, "pixel_rule": real.info.get("pixel_rule")}),
        f"duplicates for {opened.name}",
        copied.with_columns(weight=pl.lit(1.0)),
        provenance,
        (images[row][None] for row in rows),
    )


def unscreened(synthetic: Path, real: Dataset, out: Path) -> None:
    """Images without screening: for each target the first images in seed order, as many as screening kept."""
    if finished(out):
        return
    opened = open_synthetic(synthetic, real).dataset
    rows = opened.manifest.join(_verdicts(synthetic), on="image_id", how="left", maintain_order="left")
    kept = (pl.col("verdict") == KEPT).sum().over("target")
    taken = rows.filter(pl.int_range(pl.len()).over("target") < kept)
    _write_rows(out, opened, f"unscreened of {opened.name}", taken.select(opened.manifest.columns), taken["target"])


def deranged(synthetic: Path, real: Dataset, dose: float, out: Path, views: Sequence[str] = ()) -> int:
    """The kept images up to a dose, each with the label set of an image that was generated for another finding.

    Only the assignment of label sets to images changes; each label set is as frequent as before.

    Returns:
        How many images have a label set with their own target nevertheless; see `derange`.
    """
    rows = open_synthetic(synthetic, real, dose, views)
    findings, targets = list(real.space.findings), rows.targets.to_list()
    requested = label_sets(rows.rows, findings)
    giver = derange(targets, requested)
    if not finished(out):
        relabeled = rows.rows.with_columns(rows.rows.select(findings)[giver])
        _write_rows(out, rows.dataset, f"deranged of {rows.dataset.name}", relabeled, rows.targets)
    return sum(target in requested[place] for target, place in zip(targets, giver, strict=True))


def round_trip(duplicates: Path, real: Dataset, out: Path, generator: "Generator") -> None:
    """Duplicates of real images after encoding and decoding by the autoencoder of a generator."""
    from trcgl.audit.round_trip import round_trip as encode_and_decode
    from trcgl.model.folder import best_device

    opened = open_synthetic(duplicates, real).dataset
    generator.to(best_device())
    decoded = encode_and_decode(generator, opened.require_images(), opened.manifest["row"].to_numpy())
    write_folder(out, opened, f"round trip of {opened.name}", opened.manifest, _verdicts(duplicates), [decoded])


def unchanged(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same images, pixel by pixel."""
    stores = [np.load(path / "images.npy", mmap_mode="r") for path in (folder, other)]
    return all(np.array_equal(*pair) for pair in zip(*stores, strict=True))


def derange(targets: Sequence[str], requested: Sequence[Sequence[str]], seed: int = 0) -> Int[np.ndarray, " images"]:
    """A random permutation that gives every image a label set without the finding that it was generated for.

    A random permutation is repaired by exchanges. If more than half of the label sets hold one finding, some images
    keep a label set with their target. Returns for each image the index of the image whose label set it gets.
    """
    kinds = list(dict.fromkeys(targets))
    kind = np.array([kinds.index(target) for target in targets])
    pairs = list(zip(targets, requested, strict=True))
    # (targets, images): may an image of the target have the label set of this image?
    allowed = np.array([[target != own and own not in labels for target, labels in pairs] for own in kinds], bool)
    random = randomness(seed, "derange")
    giver = random.permutation(len(targets))
    for image in np.flatnonzero(~allowed[kind, giver]):
        if allowed[kind[image], giver[image]]:  # repaired by an earlier exchange
            continue
        possible = np.flatnonzero(allowed[kind[image], giver] & allowed[kind, giver[image]])
        if len(possible):
            other = possible[random.integers(len(possible))]
            giver[[image, other]] = giver[[other, image]]
    return giver


def label_sets(rows: pl.DataFrame, findings: Sequence[str]) -> list[list[str]]:
    """The positive findings of each row of a manifest."""
    present = rows.select(pl.col(list(findings)) == 1).fill_null(False).to_numpy()
    return [[finding for finding, positive in zip(findings, row, strict=True) if positive] for row in present]


def _write_rows(out: Path, opened: Dataset, name: str, rows: pl.DataFrame, targets: pl.Series) -> None:
    images, places = opened.require_images(), rows["row"].to_list()
    provenance = pl.DataFrame({"image_id": rows["image_id"], "target": targets}).with_columns(verdict=pl.lit(KEPT))
    write_folder(out, opened, name, rows, provenance, (images[place][None] for place in places))


def _verdicts(folder: Path) -> pl.DataFrame:
    return read_provenance(folder).select("image_id", "target", "verdict")
