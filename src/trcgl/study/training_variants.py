"""What trains beside the real images in an arm of `utility`: drawn images or copies, with one thing changed.

Each is a folder in the format of a synthetic one. Rows are as many for each target as the arm has that it is compared
with, so that the one thing that was changed is the one thing that differs.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from jaxtyping import Int, UInt8

from trcgl.audit.checks.label_fidelity import foreign
from trcgl.core import storage
from trcgl.core.randomness import generator as randomness
from trcgl.dataset.store import Dataset, write_images
from trcgl.dataset.synthetic_rows import KEPT, open_synthetic, read_provenance

if TYPE_CHECKING:
    from trcgl.generate.pipeline import Generator

PROVENANCE = ("image_id", "target", "verdict")
FILES = ("images.npy", "manifest.parquet", "provenance.parquet")


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
        with storage.atomic(out / file) as aside:
            frame.write_parquet(aside)
    files = {file: {"bytes": (out / file).stat().st_size, "sha256": storage.sha256_file(out / file)} for file in FILES}
    storage.write_json(out / "dataset.json", {**like.info, "name": name, "files": files})


def unscreened(synthetic: Path, real: Dataset, out: Path) -> None:
    """As many drawn images of each target as were kept, the first in seed order, whatever screening said of them.

    Args:
        synthetic: written by `trcgl synthesize` for the dataset.
        real: the dataset.
        out: the folder to write, unless it is there already.
    """
    if (out / "dataset.json").exists():
        return
    drawn = open_synthetic(synthetic, real).dataset
    rows = drawn.manifest.join(
        read_provenance(synthetic).select(PROVENANCE), on="image_id", how="left", maintain_order="left"
    )
    kept = (pl.col("verdict") == KEPT).sum().over("target")
    taken = rows.filter(pl.int_range(pl.len()).over("target") < kept)
    _select(out, drawn, f"unscreened of {drawn.name}", taken.select(drawn.manifest.columns), taken["target"])


def deranged(synthetic: Path, real: Dataset, dose: float, out: Path) -> int:
    """The kept images up to a dose, each with the label set of another that does not hold what it was drawn for.

    The label sets stay, and so does how often each comes.

    Args:
        synthetic: written by `trcgl synthesize` for the dataset.
        real: the dataset.
        dose: up to which rows take part.
        out: the folder to write, unless it is there already.

    Returns:
        How many images have a label set with what they were drawn for nevertheless; see `derange`.
    """
    drawn = open_synthetic(synthetic, real, dose)
    findings, targets = list(real.space.findings), drawn.targets.to_list()
    requested = label_sets(drawn.rows, findings)
    giver = derange(targets, requested)
    right = sum(target in requested[place] for target, place in zip(targets, giver, strict=True))
    if (out / "dataset.json").exists():
        return right
    rows = drawn.rows.with_columns(drawn.rows.select(findings)[giver])
    _select(out, drawn.dataset, f"deranged of {drawn.dataset.name}", rows, drawn.targets)
    return right


def round_trip(copies: Path, real: Dataset, out: Path, generator: "Generator") -> None:
    """Copies of real images that went through the autoencoder of a generator, encode and decode.

    Args:
        copies: written by `trcgl.study.duplication.duplicate`.
        real: the dataset.
        out: the folder to write, unless it is there already.
        generator: whose autoencoder.
    """
    from trcgl.audit.round_trip import round_trip as encode_and_decode
    from trcgl.model.folder import best_device

    if (out / "dataset.json").exists():
        return
    opened = open_synthetic(copies, real).dataset
    generator.to(best_device())
    back = encode_and_decode(generator, opened.require_images(), opened.manifest["row"].to_numpy())
    write_folder(
        out, opened, f"round trip of {opened.name}", opened.manifest, read_provenance(copies).select(PROVENANCE), [back]
    )


def unchanged(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same images, pixel by pixel."""
    stores = [np.load(one / "images.npy", mmap_mode="r") for one in (folder, other)]
    return all(np.array_equal(*pair) for pair in zip(*stores, strict=True))


def derange(targets: Sequence[str], requested: Sequence[Sequence[str]], seed: int = 0) -> Int[np.ndarray, " images"]:
    """A permutation at random that gives every image a label set without the finding that it was drawn for.

    A random permutation is mended by exchanges. Where more than half of the label sets hold one finding, that cannot
    be done for all.

    Args:
        targets: the finding that each image was drawn for.
        requested: the label set of each.
        seed: of the permutation.

    Returns:
        For each image the place of the one whose label set it gets.
    """
    fits = {one: foreign(one, targets, requested) for one in dict.fromkeys(targets)}
    draw = randomness(seed, "derange")
    giver = draw.permutation(len(targets))
    kinds = list(fits)
    allowed = np.stack([fits[one] for one in kinds])  # (targets, images): may it have the label set of this image?
    kind = np.array([kinds.index(one) for one in targets])
    for image in np.flatnonzero(~allowed[kind, giver]):
        if allowed[kind[image], giver[image]]:  # mended by an earlier exchange
            continue
        possible = np.flatnonzero(allowed[kind[image], giver] & allowed[kind, giver[image]])
        if len(possible):
            other = possible[draw.integers(len(possible))]
            giver[[image, other]] = giver[[other, image]]
    return giver


def label_sets(rows: pl.DataFrame, findings: Sequence[str]) -> list[list[str]]:
    """The findings that each row of a manifest has."""
    present = rows.select(pl.col(list(findings)) == 1).fill_null(False).to_numpy()
    return [[one for one, there in zip(findings, row, strict=True) if there] for row in present]


def _select(out: Path, drawn: Dataset, name: str, rows: pl.DataFrame, targets: pl.Series) -> None:
    images, places = drawn.require_images(), rows["row"].to_list()
    provenance = pl.DataFrame({"image_id": rows["image_id"], "target": targets}).with_columns(verdict=pl.lit(KEPT))
    write_folder(out, drawn, name, rows, provenance, (images[place][None] for place in places))
