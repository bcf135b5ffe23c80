"""What `prepare` did, for people and programs: every dropped row with its reason, label counts, leak check."""

from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import storage
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SPLITS, taking_part
from trcgl.dataset.sources import SourceTable

SCHEMA = "trcgl.preparation/1"
ROWS_ON_PAGE = 500
_WITHOUT_POSITIVES = {
    "train": "cannot be learned",
    "val": "have no say in the choice of the epoch, and get the threshold 0.5",
    "test": "cannot be judged",
}


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

    Args:
        source: name of the source.
        table: what it read.
        manifest: the rows that stay, split.
        space: the label space with its groups.
        dropped: image_id and reason of every row that does not.
        boxes: the boxes that stay, or None.
        boxes_lost: image_id, finding and reason of every box that does not.
    """
    part = taking_part(manifest)
    seen = counts(part, space)
    return {
        "schema": SCHEMA,
        "source": source,
        "counts": {
            **table.counts,
            "images": manifest.height,
            "patients": manifest["patient_id"].n_unique(),
            "images that take part": part.height,
            "images with any finding": seen.rows_with_any,
            "boxes": 0 if boxes is None else boxes.height,
            "dropped": dropped.height,
        },
        "reasons": _by_reason(dropped),
        "set_aside": _by_reason(manifest.filter(pl.col("set_aside").is_not_null()).rename({"set_aside": "reason"})),
        "dropped": dropped.to_dicts(),
        "boxes_dropped": boxes_lost.to_dicts(),
        "findings": finding_counts(part, space),
        "cooccurrence": {"findings": list(space.findings), **seen.to_dict()},
        "leaks": _leaks(manifest),
        "notes": list(table.notes),
        "license": table.license,
        "environment": storage.environment(),
    }


def finding_counts(part: pl.DataFrame, space: LabelSpace) -> list[dict[str, Any]]:
    """Group, prevalence, and images and patients with each finding, in all and per split."""
    seen = counts(part, space)
    prevalence = seen.prevalence()
    rows = []
    for place, finding in enumerate(space.findings):
        positive = part.filter(pl.col(finding) == 1)
        row: dict[str, Any] = {
            "finding": finding,
            "group": space.groups.get(finding),
            "images": positive.height,
            "patients": positive["patient_id"].n_unique(),
            "prevalence": float(prevalence[place]),
            "unknown": part[finding].null_count(),
        }
        for split in SPLITS:
            there = positive.filter(pl.col("split") == split)
            row[split] = {"images": there.height, "patients": there["patient_id"].n_unique()}
        rows.append(row)
    return rows


def write_page(out: Path, report: dict[str, Any], manifest: pl.DataFrame, space: LabelSpace, *, name: str) -> None:
    """Write `report.html` beside `report.json`."""
    from trcgl.core import html
    from trcgl.dataset.figures import cooccurrence_matrix, label_distribution

    seen = counts(taking_part(manifest), space)
    dropped = [(one["image_id"], one["reason"]) for one in report["dropped"][:ROWS_ON_PAGE]]
    leaks = report["leaks"]
    leak = f"Patients in two splits: {leaks['patients_in_two_splits']}. Files that two patients share: "
    leak += (
        f"{leaks['files_of_several_patients']}, of which {leaks['of_these_in_several_splits']} lie in several splits."
    )
    if len(report["dropped"]) > len(dropped):
        dropped.append((f"… and {len(report['dropped']) - len(dropped):,} more", "in report.json"))
    body = [
        table_html(("what", "number"), report["counts"].items()),
        "<h2>Why rows were dropped</h2>",
        _reason_table(report["reasons"]) if report["reasons"] else "<p>None was.</p>",
        *(
            ("<h2>Set aside</h2><p>Kept; they take part only on request.</p>", _reason_table(report["set_aside"]))
            if report["set_aside"]
            else ()
        ),
        f"<h2>Leak check</h2><p>{leak}</p>",
        "<h2>Findings</h2>",
        findings_html(report["findings"]),
        picture_html(html, label_distribution(space, seen, "Images per finding"), "Images per finding"),
        picture_html(html, cooccurrence_matrix(space, seen, "Which comes with which"), "Conditional co-occurrence"),
        "".join(f"<p>{escape(note)}</p>" for note in (*report["notes"], f"License of the data: {report['license']}")),
        f"<details><summary>Dropped rows ({len(report['dropped']):,})</summary>"
        f"{table_html(('image', 'reason'), dropped)}</details>",
    ]
    storage.write_text(out / "report.html", html.page(f"Preparation of {name}", "\n".join(body)))


def table_html(header: tuple[str, ...], rows: Any) -> str:
    """An HTML table; numbers are set to the right, texts are escaped."""
    lines = []
    for row in rows:
        cells = [
            f'<td class="number">{one:,}</td>' if isinstance(one, int) else f"<td>{escape(str(one))}</td>"
            for one in row
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in header)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def findings_html(findings: list[dict[str, Any]]) -> str:
    """The table of `finding_counts`, with train, val and test as images / patients, and what is missing in these."""
    rows = [
        (
            one["finding"],
            one["group"] or "",
            one["images"],
            one["patients"],
            f"{one['prevalence']:.2%}",
            *(f"{one[split]['images']:,} / {one[split]['patients']:,}" for split in SPLITS),
            one["unknown"],
        )
        for one in sorted(findings, key=lambda one: -one["images"])
    ]
    header = ("finding", "group", "images", "patients", "share", *(f"{split}: images / patients" for split in SPLITS))
    missing = {split: [one["finding"] for one in findings if not one[split]["images"]] for split in SPLITS}
    return table_html((*header, "unknown"), rows) + "".join(
        f"<p>Without a positive in {split}, so they {_WITHOUT_POSITIVES[split]}: {escape(', '.join(names))}.</p>"
        for split, names in missing.items()
        if names
    )


def picture_html(html: Any, figure: Any, words: str) -> str:
    """A figure as part of a page, with its description for those who cannot see it."""
    return html.figure(figure, words)


def _reason_table(reasons: dict[str, int]) -> str:
    return table_html(("reason", "rows"), reasons.items())


def _by_reason(rows: pl.DataFrame) -> dict[str, int]:
    # The reason of an unreadable file begins with its name; what follows is what recurs.
    short = rows.select(reason=pl.col("reason").str.replace(r"^\S+: ", ""))
    groups = short.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return dict(groups.iter_rows())


def _leaks(manifest: pl.DataFrame) -> dict[str, Any]:
    per_patient = manifest.group_by("patient_id").agg(splits=pl.col("split").n_unique())
    shared = (
        manifest.filter(pl.col("sha256").is_not_null())
        .group_by("sha256")
        .agg(pl.col("image_id").sort(), patients=pl.col("patient_id").n_unique(), splits=pl.col("split").n_unique())
        .filter(pl.col("patients") > 1)
        .sort("sha256")
    )
    return {
        "patients_in_two_splits": per_patient.filter(pl.col("splits") > 1).height,
        "files_of_several_patients": shared.height,
        "of_these_in_several_splits": shared.filter(pl.col("splits") > 1).height,
        "examples": shared["image_id"].head(20).to_list(),
    }
