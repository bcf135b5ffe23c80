"""The report of `prepare`: dropped rows with their reasons, label counts and the leak check, as JSON and as a page."""

import re
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import html, storage
from trcgl.core.errors import MEANINGS, Reason
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.finding_counts import FEW, fewest, finding_counts, findings_html, tally
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SPLITS, taking_part
from trcgl.dataset.patient_ids import doubtful
from trcgl.dataset.sources import SourceTable

SCHEMA = "trcgl.preparation/1"
ROWS_ON_PAGE = 500


def describe_preparation(
    source: str,
    table: SourceTable,
    manifest: pl.DataFrame,
    space: LabelSpace,
    dropped: pl.DataFrame,
    boxes: pl.DataFrame | None,
    boxes_lost: pl.DataFrame,
) -> dict[str, Any]:
    """The content of `report.json`, schema `trcgl.preparation/1`.

    `dropped`: image_id and reason of every dropped row, and of a row whose file was refused its `path` and the `code`
    of `core.errors.REASONS`, if it has one. `boxes_lost`: image_id, finding and reason of every dropped box.
    """
    rows = taking_part(manifest)
    cooccurrence, leaks = counts(rows, space), _leaks(manifest)
    return {
        "schema": SCHEMA,
        "source": source,
        "counts": {
            **table.counts,
            "images": manifest.height,
            "patients": manifest["patient_id"].n_unique(),
            "images that take part": rows.height,
            "images with any finding": cooccurrence.rows_with_any,
            "boxes": 0 if boxes is None else boxes.height,
            "dropped": dropped.height,
        },
        "reasons": tally(pl.Series([_kind(**row) for row in dropped.iter_rows(named=True)], dtype=pl.String)),
        "set_aside": tally(manifest["set_aside"].drop_nulls()),
        "dropped": dropped.select("image_id", "reason").to_dicts(),
        "boxes_dropped": boxes_lost.to_dicts(),
        "findings": finding_counts(rows, space),
        "cooccurrence": {"findings": list(space.findings), **cooccurrence.to_dict()},
        "leaks": leaks,
        "notices": [*table.notices, *doubtful(manifest["patient_id"]), *_shared(leaks), *_few_patients(rows)],
        "notes": list(table.notes),
        "license": table.license,
        "environment": storage.environment(),
    }


def write_page(path: Path, report: dict[str, Any], manifest: pl.DataFrame, space: LabelSpace, *, name: str) -> None:
    """Write the report as a page; `name` is the dataset's."""
    from trcgl.dataset.figures import cooccurrence_matrix, label_distribution

    train = counts(taking_part(manifest.filter(pl.col("split") == "train")), space)
    with html.house_style():
        distribution, matrix = label_distribution(space, train, ""), cooccurrence_matrix(space, train, "")
    dropped = [tuple(row.values()) for row in report["dropped"][:ROWS_ON_PAGE]]
    if more := len(report["dropped"]) - len(dropped):
        dropped.append((f"… and {more:,} more", "in report.json"))
    template = html.environment("trcgl.dataset").get_template("preparation.html.j2")
    findings = findings_html(report["findings"])
    body = template.render(report=report, findings=findings, dropped=dropped, distribution=distribution, matrix=matrix)
    phantom = report["source"] == "phantom"
    page = html.page(f"Preparation of {name}", body, lead=_lead(report, manifest), phantom=phantom)
    storage.write_text(path, page)


def _kind(reason: str, path: str | None = None, code: Reason | None = None, **_: Any) -> str:
    """The reason without what differs from file to file: its name, names of other files, elements of its header."""
    if code:
        return f"{MEANINGS[code]} (kept with --accept {code})"
    return re.sub(r" \(such as [^)]*\)", "", reason.removeprefix(f"{path}: "))


def _lead(report: dict[str, Any], manifest: pl.DataFrame) -> str:
    """What was prepared, and which findings have too few patients for a sure result."""
    sizes = ", ".join(f"{manifest.filter(pl.col('split') == split).height:,} for {split}" for split in SPLITS)
    total, dropped = report["counts"], report["counts"]["dropped"]
    findings = report["findings"]
    few = sum(finding["test"]["patients"] < FEW for finding in findings)
    rare = (
        f"{few} of {len(findings)} findings {'has' if few == 1 else 'have'} fewer than {FEW} positive patients in test"
    )
    result = f"{rare}, so that results on {'it' if few == 1 else 'them'} are uncertain"
    if not few:
        result = f"Every finding has at least {FEW} positive patients in test"
    return (
        f"{total['images']:,} radiographs of {total['patients']:,} patients are ready ({sizes}); "
        f"{'no rows were' if not dropped else 'one row was' if dropped == 1 else f'{dropped:,} rows were'} dropped. "
        f"{result}; the fewest: {fewest(findings, 'test', 3)}."
    )


def _shared(leaks: dict[str, Any]) -> list[str]:
    number, split = leaks["files_of_several_patients"], leaks["of_these_in_several_splits"]
    if not number:
        return []
    example = " and ".join(leaks["examples"][0][:2])
    return [
        f"identical files of several patients: {number:,}, of these in several splits: {split:,} (for instance "
        f"{example}). Results would look too good. Remove the copies, or give them one patient."
    ]


def _few_patients(rows: pl.DataFrame) -> list[str]:
    sizes = {split: rows.filter(pl.col("split") == split)["patient_id"].n_unique() for split in SPLITS}
    few = [f"{number} in {split}" for split, number in sizes.items() if number < FEW]
    return [f"fewer than {FEW} patients: {', '.join(few)}. Results on so few are uncertain."] if few else []


def _leaks(manifest: pl.DataFrame) -> dict[str, Any]:
    splits = manifest.group_by("patient_id").agg(splits=pl.col("split").n_unique())
    shared = (
        manifest.filter(pl.col("sha256").is_not_null())
        .group_by("sha256")
        .agg(pl.col("image_id").sort(), patients=pl.col("patient_id").n_unique(), splits=pl.col("split").n_unique())
        .filter(pl.col("patients") > 1)
        .sort("sha256")
    )
    return {
        "patients_in_two_splits": splits.filter(pl.col("splits") > 1).height,
        "files_of_several_patients": shared.height,
        "of_these_in_several_splits": shared.filter(pl.col("splits") > 1).height,
        "examples": shared["image_id"].head(20).to_list(),
    }
