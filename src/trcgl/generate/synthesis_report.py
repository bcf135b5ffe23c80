"""Report of `synthesize`: kept and rejected images of each target, and the limits and rules of screening."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image

from trcgl.core import html, storage
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.synthetic_rows import KEPT
from trcgl.generate.samples import tiled
from trcgl.generate.screen import Screening

SCHEMA = "trcgl.synthesis/1"
_SHOWN = 8  # images of each target on the page


def describe_synthesis(
    space: LabelSpace,
    real_images: Mapping[str, int],
    provenance: pl.DataFrame,
    screening: Screening,
    options: Mapping[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    """The content of `report.json`, schema `trcgl.synthesis/1`; `real_images` counts the training images per target."""
    targets = []
    for (target,), rows in provenance.group_by("target", maintain_order=True):
        real, kept = real_images[str(target)], (rows["verdict"] == KEPT).sum()
        rule = screening.rules.get(str(target))
        targets.append(
            {
                "target": target,
                "group": space.groups.get(str(target)),
                "real": real,
                "generated": rows.height,
                "kept": kept,
                "dose": kept / real,
                "rejected": _reasons(rows),
                "rule": rule.to_dict() if rule else None,
            }
        )
    kept = (provenance["verdict"] == KEPT).sum()
    return {
        "schema": SCHEMA,
        "counts": {"generated": provenance.height, "kept": kept, "rejected": provenance.height - kept},
        "reasons": _reasons(provenance),
        "targets": targets,
        "limits": dict(screening.limits),
        "options": dict(options),
        "notes": notes,
        "environment": storage.environment(),
    }


def read_report(folder: Path) -> dict[str, Any]:
    """The content of `report.json` of a synthetic folder; the key `drawn` of version 0.1 is read as `generated`."""
    report = storage.read_json(folder / "report.json")

    def renamed(counts: dict[str, Any]) -> dict[str, Any]:
        return {"generated" if name == "drawn" else name: value for name, value in counts.items()}

    return {**report, "counts": renamed(report["counts"]), "targets": [renamed(row) for row in report["targets"]]}


def write_page(
    out: Path,
    report: dict[str, Any],
    images: UInt8[np.ndarray, "rows height width"],
    provenance: pl.DataFrame,
    *,
    phantom: bool,
) -> None:
    """Write `report.html` beside `report.json`."""
    targets, lead = report["targets"], _lead(report)
    paragraph, heading = Markup("<p>{}</p>").format, Markup("<h2>{}</h2>").format
    body = [
        *map(paragraph, report["notes"]),
        heading("Images of each finding"),
        paragraph("Dose: kept images generated for the finding, divided by its real training images."),
        html.table(("finding", "group", "real", "generated", "kept", "dose", "rejected"), map(_row, targets)),
    ]
    if report["limits"]:
        rules = [_rule(row["rule"]) for row in targets if row["rule"]]
        limits = [(name, f"{value:.4f}") for name, value in report["limits"].items()]
        body += [
            heading("How a finding is recognized"),
            paragraph(
                "A synthetic image passes if the screening classifier, which was trained on real images, scores its "
                "finding at the threshold or above. Where many real images without the finding pass too, the check "
                "selects little."
            ),
            html.table(("finding", "threshold", "source of the threshold", "real images without it that pass"), rules),
            heading("Other limits"),
            html.table(("limit", "value"), limits),
        ]
    for kind, chosen in (("Kept", pl.col("verdict") == KEPT), ("Rejected", pl.col("verdict") != KEPT)):
        groups = provenance.with_row_index("row").filter(chosen).group_by("target", maintain_order=True)
        pictures = [
            _picture(images[rows["row"].to_numpy()[:_SHOWN]], f"{kind} images for {target}")
            for (target,), rows in groups
        ]
        body += [heading(f"{kind} images"), *(pictures or [paragraph("None.")])]
    page = html.page(
        f"Synthetic images: {out.resolve().name}",
        Markup("\n").join(body),
        lead=lead,
        phantom=phantom,
        style="figure img { image-rendering: pixelated; max-width: 100%; }",
    )
    storage.write_text(out / "report.html", page)


def _lead(report: dict[str, Any]) -> str:
    """How many images were kept and why the others were rejected, in two sentences."""
    counts, reasons = report["counts"], report["reasons"]
    if not report["limits"]:
        return f"All {counts['generated']:,} synthetic images were kept. They were not screened."
    kept = f"{counts['kept']:,} of {counts['generated']:,} synthetic images passed screening and can be used to train."
    if not reasons:
        return f"{kept} No image was rejected."
    causes = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
    none_left = [row["target"] for row in report["targets"] if not row["kept"]]
    rest = f"; no image was kept for {', '.join(none_left)}" if none_left else ""
    return f"{kept} Reasons for rejection: {causes}{rest}."


def _reasons(provenance: pl.DataFrame) -> dict[str, int]:
    """Number of rejected images by reason, the most common reason first."""
    rejected = provenance.filter(pl.col("verdict") != KEPT).select(
        reason=pl.col("verdict").str.strip_prefix("rejected: ")
    )
    groups = rejected.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return dict(groups.iter_rows())


def _row(target: dict[str, Any]) -> tuple[Any, ...]:
    reasons = "; ".join(f"{reason} {count:,}" for reason, count in target["rejected"].items())
    counts = (target["real"], target["generated"], target["kept"])
    return (target["target"], target["group"] or "", *counts, f"{target['dose']:.2f}", reasons)


def _rule(rule: dict[str, Any]) -> tuple[str, ...]:
    threshold = "" if rule["threshold"] is None else f"{rule['threshold']:.3f}"
    passing = "" if rule["others_pass"] is None else f"{rule['others_pass']:.1%} of {rule['others']:,}"
    return (rule["target"], threshold, rule["rule"], passing)


def _picture(images: np.ndarray, caption: str) -> Markup:
    stream = io.BytesIO()
    Image.fromarray(tiled(images, _SHOWN)).save(stream, format="PNG")
    figure = Markup('<figure><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>')
    return figure.format(html.png_uri(stream.getvalue()), caption, caption)
