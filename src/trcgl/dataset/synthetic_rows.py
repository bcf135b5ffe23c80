"""The rows of a synthetic folder that are used for training beside real rows: kept images, up to a dose."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset, open_dataset

KEPT = "kept"  # verdict of a synthetic image that passed screening; every other verdict says why the image was rejected

_RENAMED_COLUMNS = {"sampler": "solver", "screen/drawn_similarity": "screen/synthetic_similarity"}
_RENAMED_VERDICTS = {"rejected: repeats a drawn image": "rejected: repeats a synthetic image"}
_RENAMED_OPTIONS = {"sampler": "solver"}
_ADDED_OPTIONS = {
    "guidance_for": {},
    "views": "all",
    "from_real": False,
    "strength": None,
    "source_images": "without_target",
}
_ADDED_COLUMNS = {"pixel_source_image": pl.String, "pixel_source_patient": pl.String, "strength": pl.Float64}


@dataclass(frozen=True)
class SyntheticRows:
    """Synthetic rows that are used for training."""

    dataset: Dataset
    rows: pl.DataFrame  # manifest rows that are used; the rows of each target in seed order
    targets: pl.Series  # the finding that each row was generated for
    digest: str

    def counts(self, real: pl.DataFrame) -> dict[str, dict[str, Any]]:
        """For each finding: real rows with it, synthetic rows generated for it and with it, and its dose."""
        counts = {}
        for finding in self.dataset.space.findings:
            positives, generated = int((real[finding] == 1).sum()), int((self.targets == finding).sum())
            counts[finding] = {
                "real": positives,
                "synthetic_for": generated,
                "synthetic_with": int((self.rows[finding] == 1).sum()),
                "dose": generated / positives if positives else None,
            }
        return counts


def balancing(space: LabelSpace) -> tuple[str, ...]:
    """The balancing findings, generated beside the targets: the normal label and the head findings."""
    normal = (space.normal,) if space.normal else ()
    return tuple(dict.fromkeys((*normal, *space.in_group("head"))))


def sources(train: pl.DataFrame, space: LabelSpace, finding: str) -> pl.DataFrame:
    """Training rows whose label sets synthetic images of a finding use; for the normal label, rows with it alone."""
    having = train.filter(pl.col(space.findings[space.index(finding)]) == 1)
    if finding != space.normal:
        return having
    others = [pl.col(other) == 1 for other in space.findings if other != finding]
    return having.filter(~pl.any_horizontal(*others).fill_null(False)) if others else having


def read_provenance(folder: Path) -> pl.DataFrame:
    """The table `provenance.parquet` of a synthetic folder; names that version 0.1 wrote are translated."""
    path = Path(folder) / "provenance.parquet"
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}). Run `trcgl synthesize` again.") from error
    table = table.rename(_RENAMED_COLUMNS, strict=False)
    added = {name: kind for name, kind in _ADDED_COLUMNS.items() if name not in table.columns}
    table = table.with_columns(pl.lit(None, kind).alias(name) for name, kind in added.items())
    return table.with_columns(pl.col("verdict").replace(_RENAMED_VERDICTS))


def generation_record(synthetic: Dataset) -> dict[str, Any]:
    """The entry `synthetic` of a synthetic folder's `dataset.json`: dataset, generator, screener and `options`.

    Option names that version 0.1 wrote are translated, and options that it did not have get their defaults.
    """
    record = synthetic.info["synthetic"]
    return {**record, "options": current_options(record.get("options", {}))}


def current_options(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options of `trcgl synthesize` under their present names; missing options get what held before them."""
    return _ADDED_OPTIONS | {_RENAMED_OPTIONS.get(name, name): value for name, value in stored.items()}


def open_synthetic(
    folder: Path, real: Dataset, dose: float | None = None, views: Collection[str] = ()
) -> SyntheticRows:
    """The kept rows of a synthetic folder, up to a dose.

    A dose r takes the first r × N images of a target with N real training images, in seed order, so that a smaller dose
    is a prefix of a larger dose. Balancing images are taken in the same proportion.

    `dose`: synthetic images per real training image; `None` takes every kept row. `views`: count real images of these
    views only, and leave out synthetic images of other views; by default all.
    """
    folder = Path(folder)
    synthetic = open_dataset(folder)
    record = synthetic.info.get("synthetic")
    if synthetic.info["source"] != "synthetic" or not record:
        raise DataError(f"{folder} holds no synthetic images. Name a folder that `trcgl synthesize` wrote.")
    if record["dataset_digest"] != storage.sha256_file(real.folder / "dataset.json"):
        raise DataError(
            f"{folder} was generated for another dataset ({record['dataset']}) than {real.folder} is now: its images "
            "may carry val or test patients into training. Generate images for this dataset."
        )
    if synthetic.space.findings != real.space.findings:
        raise DataError(f"{folder} has other findings than {real.folder}. Generate images for this dataset.")
    provenance = _provenance(folder, synthetic)
    _check_patients(synthetic, provenance, real)
    if synthetic.require_images().shape[1:] != real.require_images().shape[1:]:
        raise DataError(
            f"{folder}: images are {synthetic.require_images().shape[1]} px, those of {real.folder} are not."
        )
    verdicts = provenance.select("image_id", "target", "verdict")
    rows = synthetic.manifest.join(verdicts, on="image_id", how="left", maintain_order="left")
    kept = rows.filter(pl.col("verdict") == KEPT)
    if views:  # a generator that does not know views leaves the column empty
        kept = kept.filter(pl.col("view").is_in(list(views)).fill_null(True))
    taken = kept if dose is None or not kept.height else _up_to(kept, dose, real, views)
    digest = storage.sha256_file(folder / "dataset.json")
    return SyntheticRows(synthetic, taken.select(synthetic.manifest.columns), taken["target"], digest)


def _check_patients(synthetic: Dataset, provenance: pl.DataFrame, real: Dataset) -> None:
    """Labels and pixels must be of train patients."""
    train = real.manifest.filter(pl.col("split") == "train")
    patients = train["patient_id"].unique().implode()
    outside = synthetic.manifest.filter((pl.col("split") != "train") | ~pl.col("patient_id").is_in(patients))
    if outside.height:
        raise DataError(
            f"{synthetic.folder}: image {outside['image_id'][0]!r} and {outside.height - 1} more are not of train "
            f"patients of {real.folder}. Generate images for this dataset."
        )
    started = provenance.filter(pl.col("strength").is_not_null())
    known = train.select(pixel_source_image="image_id", pixel_source_patient="patient_id")
    strange = started.join(known, on=["pixel_source_image", "pixel_source_patient"], how="anti", maintain_order="left")
    if strange.height:
        raise DataError(
            f"{synthetic.folder}: image {strange['image_id'][0]!r} and {strange.height - 1} more start from images "
            f"that are not of train patients of {real.folder}. Generate images for this dataset."
        )


def _provenance(folder: Path, synthetic: Dataset) -> pl.DataFrame:
    provenance = read_provenance(folder)
    if missing := set(synthetic.manifest["image_id"]) - set(provenance["image_id"]):
        raise DataError(f"{folder}/provenance.parquet: image {min(missing)!r} is missing. Generate the images again.")
    return provenance


def _up_to(kept: pl.DataFrame, dose: float, real: Dataset, views: Collection[str]) -> pl.DataFrame:
    """The first rows of every target, in their order."""
    available = dict(kept.group_by("target").len().iter_rows())
    balance = [finding for finding in available if finding in balancing(real.space)]
    targets = [finding for finding in available if finding not in balance] or balance
    train = real.split("train", views=views)
    taken = {finding: min(available[finding], images_at(dose, int((train[finding] == 1).sum()))) for finding in targets}
    share = sum(taken.values()) / max(1, sum(available[finding] for finding in targets))
    taken |= {finding: math.ceil(share * available[finding]) for finding in balance if finding not in targets}
    number = pl.int_range(pl.len()).over("target")
    return kept.filter(number < pl.col("target").replace_strict(taken, return_dtype=pl.Int64))


def images_at(dose: float, real: int) -> int:
    """Number of synthetic images at a dose, for a number of real images."""
    return max(1, round(dose * real)) if dose else 0
