"""What `synthesize` did, for people and programs: kept and rejected images of each target, and by which rules."""

import io
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import UInt8
from PIL import Image

from trcgl.core import storage
from trcgl.core.html import table as table_html
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import KEPT
from trcgl.generate.plan import sources
from trcgl.generate.samples import tiled

SCHEMA = "trcgl.synthesis/1"
_SHOWN = 8  # images of each kind on the page


def describe_synthesis(
    dataset: Dataset,
    provenance: pl.DataFrame,
    checks: dict[str, Any],
    options: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    """The content of `report.json`, schema `trcgl.synthesis/1`.

    Args:
        dataset: the real one.
        provenance: of every drawn image.
        checks: the `limits` and `rules` of screening.
        options: what was asked for.
        notes: what a reader should know.
    """
    train = dataset.split("train")
    kept = provenance.filter(pl.col("verdict") == KEPT)
    targets = []
    for target in provenance["target"].unique(maintain_order=True):
        drawn = provenance.filter(pl.col("target") == target)
        real, stay = sources(train, dataset.space, target).height, drawn.filter(pl.col("verdict") == KEPT).height
        targets.append(
            {
                "target": target,
                "group": dataset.space.groups.get(target),
                "real": real,
                "drawn": drawn.height,
                "kept": stay,
                "dose": stay / real,
                "rejected": _reasons(drawn),
                "rule": checks["rules"].get(target),
            }
        )
    return {
        "schema": SCHEMA,
        "counts": {"drawn": provenance.height, "kept": kept.height, "rejected": provenance.height - kept.height},
        "reasons": _reasons(provenance),
        "targets": targets,
        "limits": checks["limits"],
        "options": options,
        "notes": notes,
        "environment": storage.environment(),
    }


def write_page(
    out: Path,
    report: dict[str, Any],
    images: UInt8[np.ndarray, "rows height width"],
    provenance: pl.DataFrame,
    *,
    phantom: bool,
) -> None:
    """Write `report.html` beside `report.json`.

    Args:
        out: the synthetic folder.
        report: the content of `report.json`.
        images: drawn.
        provenance: of each of them.
        phantom: the generator learned from phantoms.
    """
    from trcgl.core import html

    counts = report["counts"]
    body = [
        table_html(("what", "images"), counts.items()),
        *(f"<p>{escape(note)}</p>" for note in report["notes"]),
        "<h2>Targets</h2>",
        "<p>Dose: kept images that were drawn for the finding ÷ its real training images.</p>",
        table_html(("target", "group", "real", "drawn", "kept", "dose", "rejected"), map(_row, report["targets"])),
        "<h2>Why images were rejected</h2>",
        table_html(("reason", "images"), report["reasons"].items()) if report["reasons"] else "<p>None was.</p>",
    ]
    if report["limits"]:
        rules = [_rule(one["rule"]) for one in report["targets"] if one["rule"]]
        body += [
            "<h2>How a target is recognized</h2>",
            "<p>A drawn image passes if a classifier of real images gives its target at least the threshold. Where "
            "many real images without the finding pass too, the check says little.</p>",
            table_html(("target", "threshold", "which is the", "real images without it that pass"), rules),
            "<h2>Other limits</h2>",
            table_html(("limit", "value"), [(name, f"{value:.4f}") for name, value in report["limits"].items()]),
        ]
    for kind, chosen in (("Kept", pl.col("verdict") == KEPT), ("Rejected", pl.col("verdict") != KEPT)):
        rows = provenance.with_row_index("row").filter(chosen)
        pictures = [
            _picture(images[there["row"].to_numpy()[:_SHOWN]], f"{kind} images for {target}", html)
            for target in rows["target"].unique(maintain_order=True)
            if (there := rows.filter(pl.col("target") == target)).height
        ]
        body += [f"<h2>{kind} images</h2>", *(pictures or ["<p>None.</p>"])]
    page = html.page(
        f"Drawn images: {out.resolve().name}",
        "\n".join(body),
        subtitle=f"{counts['kept']:,} of {counts['drawn']:,} drawn images are kept",
        phantom=phantom,
        style="figure img { image-rendering: pixelated; max-width: 100%; }",
    )
    storage.write_text(out / "report.html", page)


def _reasons(provenance: pl.DataFrame) -> dict[str, int]:
    rejected = provenance.filter(pl.col("verdict") != KEPT).select(
        reason=pl.col("verdict").str.strip_prefix("rejected: ")
    )
    groups = rejected.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return dict(groups.iter_rows())


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    reasons = "; ".join(f"{reason} {count:,}" for reason, count in one["rejected"].items())
    counts = (one["real"], one["drawn"], one["kept"])
    return (one["target"], one["group"] or "", *counts, f"{one['dose']:.2f}", reasons)


def _rule(one: dict[str, Any]) -> tuple[str, ...]:
    threshold = "" if one["threshold"] is None else f"{one['threshold']:.3f}"
    passing = "" if one["others_pass"] is None else f"{one['others_pass']:.1%} of {one['others']:,}"
    return (one["target"], threshold, one["rule"], passing)


def _picture(images: np.ndarray, words: str, html: Any) -> str:
    stream = io.BytesIO()
    Image.fromarray(tiled(images, _SHOWN)).save(stream, format="PNG")
    caption = f"<figcaption>{escape(words)}</figcaption>"
    return f'<figure><img src="{html.png_uri(stream.getvalue())}" alt="{escape(words)}">{caption}</figure>'
