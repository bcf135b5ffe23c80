"""The table of scores, per image or per study, and its files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Float

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.notice import RESEARCH_USE
from trcgl.imaging.identifiers import KEYWORDS
from trcgl.model.combination import Combination

SCHEMA = "trcgl.scores/1"
Format = Literal["csv", "parquet", "json"]
FORMATS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".json": "json"}


@dataclass(frozen=True)
class Scores:
    """Scores of a set of radiographs by one model, or by the mean of several.

    Args:
        findings: findings in the model's order.
        table: image_id, then `score/<finding>` (Float32, a probability) and `positive/<finding>` (whether the score
            reaches the threshold fitted on val; null without one), and `reason`. Fused by study: study_id, `images`
            (number of scored images) and `image_ids` (delimited by `|`) in place of image_id. With identifiers, the
            UIDs and the accession number of the DICOM files follow, several values delimited by `|`. A file that is
            readable but not accepted has no scores, but a `reason`; a study has the reasons of its refused files,
            delimited by `|`, each after the image_id, and no scores if all its files are refused.
        unreadable: image_id and reason of every file that could not be read.
        refused: image_id and reason of every file that is readable, but not accepted.
        calibrated: whether `trcgl evaluate` has fitted temperature and thresholds of every model, or of the ensemble.
        weights_sha256: digest of the model's weights; of several models, the digest of their digests.
        models: name of the recipe, weights_sha256, engine, temperature and thresholds of each model.
        tta: the copies that are averaged with each radiograph: `flip` is its mirror image, a number its magnification.
        fitted: how an ensemble folder combines scores; None for a run, or for runs that are averaged without one.
        knows_mirrored: whether every model was trained on mirror images.
        of_phantoms: whether a model was trained on phantoms, so that its scores do not apply to patients.
        members: the image_ids of the scored files of each row.
    """

    findings: tuple[str, ...]
    table: pl.DataFrame
    unreadable: pl.DataFrame
    refused: pl.DataFrame
    calibrated: bool
    weights_sha256: str
    models: tuple[dict[str, Any], ...]
    tta: tuple[str, ...]
    fitted: Combination | None
    knows_mirrored: bool
    of_phantoms: bool
    members: tuple[tuple[str, ...], ...]

    @property
    def by_study(self) -> bool:
        """Whether a row is a study."""
        return "study_id" in self.table.columns

    @property
    def are_means(self) -> bool:
        """Whether scores are means of more images or models than the thresholds were fitted on."""
        if self.fitted is not None:
            return self.by_study and self.fitted.fusion.name == "none"
        return len(self.models) > 1 or bool(self.tta) or self.by_study

    @property
    def identified(self) -> bool:
        """Whether rows hold the identifiers of their DICOM files."""
        return "study_instance_uid" in self.table.columns

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value of schema `trcgl.scores/1`."""
        rows = []
        for members, row in zip(self.members, self.table.iter_rows(named=True), strict=True):
            if self.by_study:
                name = {"study_id": row["study_id"], "image_ids": members}
            else:
                name = {"image_id": row["image_id"]}
            scores = {finding: row[f"score/{finding}"] for finding in self.findings}
            positive = None
            if self.calibrated and members:
                positive = [finding for finding in self.findings if row[f"positive/{finding}"]]
            identifiers = {"identifiers": {key: row[key] for key in KEYWORDS}} if self.identified else {}
            rows.append({**name, **identifiers, "scores": scores, "positive": positive, "reason": row["reason"]})
        return {
            "schema": SCHEMA,
            "weights_sha256": self.weights_sha256,
            "models": [{key: model[key] for key in ("name", "weights_sha256", "engine")} for model in self.models],
            "tta": bool(self.tta),
            **({} if self.fitted is None else {"ensemble": self.fitted.summary}),
            "calibrated": self.calibrated,
            "findings": list(self.findings),
            "studies" if self.by_study else "images": rows,
            "unreadable": self.unreadable.to_dicts(),
            "research_use": RESEARCH_USE,
        }


def rows_by_study(studies: Sequence[str]) -> dict[str, list[int]]:
    """Study to the rows of its images, sorted by study."""
    rows: dict[str, list[int]] = {}
    for row, study in sorted(enumerate(studies), key=lambda pair: pair[1]):
        rows.setdefault(study, []).append(row)
    return rows


def score_table(
    names: Mapping[str, pl.Series],
    scores: Float[np.ndarray, "rows findings"],
    findings: Sequence[str],
    thresholds: Mapping[str, float] | None,
    reasons: Sequence[str | None],
) -> pl.DataFrame:
    """The table of `Scores`: the columns in `names`, the scores, whether each reaches its threshold, and the reasons.

    Rows without scores (NaN) have empty cells.
    """
    columns = dict(names)
    unscored = pl.Series(np.isnan(scores).any(axis=1), dtype=pl.Boolean)
    for place, finding in enumerate(findings):
        columns[f"score/{finding}"] = pl.Series(scores[:, place], dtype=pl.Float32).fill_nan(None)
    for place, finding in enumerate(findings):
        reached = scores[:, place] >= thresholds[finding] if thresholds else [None] * len(scores)
        columns[f"positive/{finding}"] = pl.Series(reached, dtype=pl.Boolean).set(unscored, None)
    columns["reason"] = pl.Series(reasons, dtype=pl.String)
    return pl.DataFrame(columns)


def write_scores(scores: Scores, out: Path, format: Format | None = None) -> list[Path]:
    """Write the table, and beside it `<out>.unreadable.csv` if files could not be read (JSON holds both).

    Returns:
        The files that were written.
    """
    kind = check_out(out, format)
    written = []
    if kind != "json" and scores.unreadable.height:
        written = [_unreadable_of(out)]
        with storage.atomic(written[0]) as aside:
            scores.unreadable.write_csv(aside)
    with storage.atomic(out) as aside:
        if kind == "parquet":
            scores.table.write_parquet(aside)
        else:
            aside.write_text(as_text(scores, kind), encoding="utf-8")
    return [out, *written]


def check_out(out: Path, format: Format | None = None) -> Format:
    """The format of a file to write; None takes it from the extension.

    Raises:
        DataError: `out` or its list of unreadable files exists, or the extension names no format.
    """
    kind = format or FORMATS.get(out.suffix.lower())
    if kind is None:
        raise DataError(f"{out}: the file extension names no format. Use {', '.join(FORMATS)}, or say --format.")
    # A list of unreadable files beside the journal of an interrupted command belongs to that command.
    for path in (out,) if journal_of(out).exists() else (out, _unreadable_of(out)):
        if path.exists():
            raise DataError(f"{path} is there already. Choose another --out, or remove it yourself.")
    return kind


def as_text(scores: Scores, format: Literal["csv", "json"]) -> str:
    """The table as CSV, or all of `to_dict` as JSON."""
    if format == "csv":
        return scores.table.write_csv(float_precision=6)
    return json.dumps(scores.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def journal_of(out: Path) -> Path:
    """File that holds the scores so far until `out` is written."""
    return out.with_name(f"{out.name}.partial")


def _unreadable_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.unreadable.csv")
