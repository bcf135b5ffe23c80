"""The report of `prepare`: dropped rows with their reasons, label counts and the leak check, as JSON and as a page."""

from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from trcgl.core import html, storage
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.finding_counts import FEW, fewest, finding_counts, findings_html
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SPLITS, taking_part
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

    `dropped`: image_id and reason of every dropped row. `boxes_lost`: image_id, finding and reason of every dropped
    box.
    """
    rows = taking_part(manifest)
    cooccurrence = counts(rows, space)
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
        "reasons": _by_reason(dropped),
        "set_aside": _by_reason(manifest.filter(pl.col("set_aside").is_not_null()).rename({"set_aside": "reason"})),
        "dropped": dropped.to_dicts(),
        "boxes_dropped": boxes_lost.to_dicts(),
        "findings": finding_counts(rows, space),
        "cooccurrence": {"findings": list(space.findings), **cooccurrence.to_dict()},
        "leaks": _leaks(manifest),
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
    dropped = [(row["image_id"], row["reason"]) for row in report["dropped"][:ROWS_ON_PAGE]]
    if more := len(report["dropped"]) - len(dropped):
        dropped.append((f"… and {more:,} more", "in report.json"))
    leaks = report["leaks"]
    paragraph = Markup("<p>{}</p>")
    body = [
        Markup("<h2>Findings</h2>"),
        findings_html(report["findings"]),
        html.figure(distribution, "Training images per finding", "Training images per finding on a log scale."),
        html.figure(
            matrix,
            "Share of the training images with one finding that also have another",
            "Of the training images with the finding of the row, the share that also has the finding of the column.",
        ),
        Markup("<h2>Dropped rows</h2>"),
        html.table(("reason", "rows"), report["reasons"].items()) if report["reasons"] else Markup("<p>None.</p>"),
    ]
    if dropped:
        body.append(
            Markup("<details><summary>Every dropped row ({:,})</summary>{}</details>").format(
                len(report["dropped"]), html.table(("image", "reason"), dropped)
            )
        )
    if report["set_aside"]:
        body += [
            Markup("<h2>Rows set aside</h2><p>In the manifest, but used only with --train.with-none.</p>"),
            html.table(("reason", "rows"), report["set_aside"].items()),
        ]
    body += [
        Markup("<h2>Leak check</h2>"),
        paragraph.format(
            f"Patients in two splits: {leaks['patients_in_two_splits']}. Files that several patients share: "
            f"{leaks['files_of_several_patients']}; in several splits: {leaks['of_these_in_several_splits']}."
        ),
        Markup("<h2>Counts</h2>"),
        html.table(("what", "number"), report["counts"].items()),
        *(paragraph.format(note) for note in (*report["notes"], f"License of the data: {report['license']}")),
    ]
    page = html.page(
        f"Preparation of {name}",
        Markup("\n").join(body),
        lead=_lead(report, manifest),
        phantom=report["source"] == "phantom",
    )
    storage.write_text(path, page)


def _lead(report: dict[str, Any], manifest: pl.DataFrame) -> str:
    """What was prepared, and which findings have too few patients for a sure result."""
    sizes = ", ".join(f"{manifest.filter(pl.col('split') == split).height:,} for {split}" for split in SPLITS)
    total, dropped = report["counts"], report["counts"]["dropped"]
    few = sum(finding["test"]["patients"] < FEW for finding in report["findings"])
    return (
        f"{total['images']:,} radiographs of {total['patients']:,} patients are ready ({sizes}); "
        f"{'no rows were' if not dropped else 'one row was' if dropped == 1 else f'{dropped:,} rows were'} dropped. "
        f"{few} of {len(report['findings'])} findings have fewer than {FEW} positive patients in test, so "
        f"that results on them are uncertain; the fewest: {fewest(report['findings'], 'test', 3)}."
    )


def _by_reason(rows: pl.DataFrame) -> dict[str, int]:
    # The reason of an unreadable file begins with its name; what follows is what recurs.
    short = rows.select(reason=pl.col("reason").str.replace(r"^\S+: ", ""))
    groups = short.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return dict(groups.iter_rows())


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
