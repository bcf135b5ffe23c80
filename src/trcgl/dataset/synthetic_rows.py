"""The rows of a synthetic folder that train beside real ones: kept ones, up to a dose."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import taking_part
from trcgl.dataset.store import Dataset, open_dataset

KEPT = "kept"
"""Verdict of a synthetic image that passed screening; every other verdict says why the image was rejected."""

_RENAMED_COLUMNS = {"sampler": "solver", "screen/drawn_similarity": "screen/synthetic_similarity"}
_RENAMED_VERDICTS = {"rejected: repeats a drawn image": "rejected: repeats a synthetic image"}
_RENAMED_OPTIONS = {"sampler": "solver"}


@dataclass(frozen=True)
class SyntheticRows:
    """Drawn rows that take part in training.

    Args:
        dataset: the synthetic folder, opened.
        rows: of its manifest, those that take part; each target's in seed order.
        targets: what each of them was drawn for.
        digest: of the folder's `dataset.json`.
    """

    dataset: Dataset
    rows: pl.DataFrame
    targets: pl.Series
    digest: str

    def counts(self, real: pl.DataFrame) -> dict[str, dict[str, Any]]:
        """For each finding: real positives, drawn rows that target it, drawn rows that show it, and its dose.

        Args:
            real: the real training rows.
        """
        told = {}
        for finding in self.dataset.space.findings:
            positives, aimed = int((real[finding] == 1).sum()), int((self.targets == finding).sum())
            told[finding] = {
                "real": positives,
                "drawn_for": aimed,
                "drawn_with": int((self.rows[finding] == 1).sum()),
                "dose": aimed / positives if positives else None,
            }
        return told


def balancing(space: LabelSpace) -> tuple[str, ...]:
    """The normal label and the head findings, which are drawn beside the others."""
    normal = (space.normal,) if space.normal else ()
    return tuple(dict.fromkeys((*normal, *space.in_group("head"))))


def read_provenance(folder: Path) -> pl.DataFrame:
    """The table `provenance.parquet` of a synthetic folder; names that version 0.1 wrote are translated.

    Raises:
        DataError: the table is missing or damaged.
    """
    path = Path(folder) / "provenance.parquet"
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}). Run `trcgl synthesize` again.") from error
    table = table.rename(_RENAMED_COLUMNS, strict=False)
    return table.with_columns(pl.col("verdict").replace(_RENAMED_VERDICTS))


def generation_record(synthetic: Dataset) -> dict[str, Any]:
    """The entry `synthetic` of a synthetic folder's `dataset.json`: dataset, generator, screener and `options`.

    Option names that version 0.1 wrote are translated, and options that it did not have get their defaults.
    """
    record = synthetic.info["synthetic"]
    return {**record, "options": current_options(record.get("options", {}))}


def current_options(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options of `trcgl synthesize` under their present names, with defaults for options newer than they."""
    return {"guidance_for": {}} | {_RENAMED_OPTIONS.get(name, name): value for name, value in stored.items()}


def open_synthetic(folder: Path, real: Dataset, dose: float | None = None) -> SyntheticRows:
    """The kept rows of a synthetic folder, up to a dose.

    A dose r takes the first r times as many images of each target as it has real training images, in seed order, so
    that a smaller dose is a prefix of a larger one. The normal and head images beside them are taken in the same
    proportion.

    Args:
        folder: written by `trcgl synthesize`.
        real: the dataset that it was drawn for.
        dose: `None` takes every kept row, 0 none.

    Raises:
        DataError: the folder is not a synthetic one, was drawn for another dataset, holds rows of patients outside
            train, or its images do not fit.
    """
    folder = Path(folder)
    drawn = open_dataset(folder)
    about = drawn.info.get("synthetic")
    if drawn.info["source"] != "synthetic" or not about:
        raise DataError(f"{folder} holds no drawn images. Name a folder that `trcgl synthesize` wrote.")
    if about["dataset_digest"] != storage.sha256_file(real.folder / "dataset.json"):
        raise DataError(
            f"{folder} was drawn for another dataset ({about['dataset']}) than {real.folder} is now: its images may "
            "carry val or test patients into training. Draw for this dataset."
        )
    if drawn.space.findings != real.space.findings:
        raise DataError(f"{folder} has other findings than {real.folder}. Draw for this dataset.")
    _check_patients(drawn, real)
    if drawn.require_images().shape[1:] != real.require_images().shape[1:]:
        raise DataError(f"{folder}: images are {drawn.require_images().shape[1]} px, those of {real.folder} are not.")
    rows = drawn.manifest.join(_verdicts(folder, drawn), on="image_id", how="left", maintain_order="left")
    kept = rows.filter(pl.col("verdict") == KEPT)
    taken = kept if dose is None or not kept.height else _up_to(kept, dose, real)
    digest = storage.sha256_file(folder / "dataset.json")
    return SyntheticRows(drawn, taken.select(drawn.manifest.columns), taken["target"], digest)


def _check_patients(drawn: Dataset, real: Dataset) -> None:
    train = real.manifest.filter(pl.col("split") == "train")["patient_id"].unique()
    outside = drawn.manifest.filter((pl.col("split") != "train") | ~pl.col("patient_id").is_in(train.implode()))
    if outside.height:
        raise DataError(
            f"{drawn.folder}: image {outside['image_id'][0]!r} and {outside.height - 1} more are not of train patients "
            f"of {real.folder}. Draw for this dataset."
        )


def _verdicts(folder: Path, drawn: Dataset) -> pl.DataFrame:
    verdicts = read_provenance(folder).select("image_id", "target", "verdict")
    if missing := set(drawn.manifest["image_id"]) - set(verdicts["image_id"]):
        raise DataError(f"{folder}/provenance.parquet: image {min(missing)!r} is missing. Generate the images again.")
    return verdicts


def _up_to(kept: pl.DataFrame, dose: float, real: Dataset) -> pl.DataFrame:
    """The first rows of every target; the rows keep their order."""
    there = dict(kept.group_by("target").len().iter_rows())
    beside = [one for one in there if one in balancing(real.space)]
    aimed = [one for one in there if one not in beside] or beside
    train = taking_part(real.manifest.filter(pl.col("split") == "train"))
    taken = {one: min(there[one], images_at(dose, int((train[one] == 1).sum()))) for one in aimed}
    share = sum(taken.values()) / max(1, sum(there[one] for one in aimed))
    taken |= {one: math.ceil(share * there[one]) for one in beside if one not in aimed}
    number = pl.int_range(pl.len()).over("target")
    return kept.filter(number < pl.col("target").replace_strict(taken, return_dtype=pl.Int64))


def images_at(dose: float, real: int) -> int:
    """How many images a dose asks for, beside so many real ones."""
    return max(1, round(dose * real)) if dose else 0
