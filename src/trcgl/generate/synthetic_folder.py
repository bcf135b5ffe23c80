"""Write a synthetic folder: a dataset folder with `provenance.parquet` and a report; `dataset.json` is written last."""

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import UInt8
from PIL import Image

from trcgl.core import html, storage
from trcgl.core.notice import RESEARCH_USE
from trcgl.dataset import manifest as manifests
from trcgl.dataset.finding_counts import tally
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import SCHEMA, Dataset, file_table, split_table
from trcgl.dataset.synthetic_rows import KEPT, balancing, sources
from trcgl.generate.pixel_sources import COLUMNS, absent_in_sources
from trcgl.generate.samples import tiled
from trcgl.generate.sampling_run import image_parts
from trcgl.generate.screen import Screening

REPORT_SCHEMA = "trcgl.synthesis/1"
_SHOWN = 8  # images of each finding on the page
_NO_BALANCE = (
    "The label space has neither a normal label nor a head finding, so no balancing images were generated. A "
    "classifier that trains with these images may learn to take a synthetic image for a rare finding."
)


def write_synthetic_folder(
    out: Path,
    rows: pl.DataFrame,
    images: UInt8[np.ndarray, "rows side side"],
    screening: Screening,
    dataset: Dataset,
    record: dict[str, Any],
    license: str,
) -> dict[str, Any]:
    """Write everything beside `images.npy`, then remove the parts that it was made of.

    `out`: the synthetic folder, which holds `images.npy` already. `record`: the entry `synthetic` of `dataset.json`:
    dataset, generator, screener and `options`.
    """
    options = record["options"]
    manifest = _manifest(rows, images, dataset)
    splits = split_table(manifest)
    provenance = rows.select(
        *("image_id", "source_image_id", "target", "view", "prompt", "left_out", "seed", "guidance"),
        *(pl.col(name) if name in rows.columns else pl.lit(None, pl.String).alias(name) for name in COLUMNS),
        strength=pl.lit(options["strength"], pl.Float64),
        guided_to=pl.lit(options["guided_to"], pl.Float64),
        steps=pl.lit(options["steps"], pl.Int64),
        solver=pl.lit(options["solver"]),
        generator=pl.lit(record["generator"]),
        base=pl.lit((record["base"] or {}).get("kind"), pl.String),
    ).hstack(screening.table)
    notes = [] if balancing(dataset.space) else [_NO_BALANCE]
    train = dataset.split("train")
    real_images = {target: sources(train, dataset.space, target).height for target in rows["target"].unique()}
    report = describe_synthesis(dataset.space, real_images, provenance, screening, options, notes)
    write_page(out, report, images, provenance, phantom=dataset.info["source"] == "phantom")
    storage.write_parquet(out / "manifest.parquet", manifest)
    storage.write_parquet(out / "provenance.parquet", provenance)
    storage.write_json(out / "report.json", report)
    files = ("images.npy", "manifest.parquet", "provenance.parquet", "report.json", "report.html")
    info = {
        "schema": SCHEMA,
        "name": out.resolve().name,
        "source": "synthetic",
        "label_space": dataset.space.to_dict(),
        "image_size": images.shape[1],
        "fit": dataset.info["fit"],
        "pixel_rule": "synthetic, 8 bits",
        "counts": report["counts"],
        "splits": splits,
        "files": file_table(out, files),
        "synthetic": {**record, "environment": storage.environment()},
        "license": license,
        "notes": notes,
        "research_use": RESEARCH_USE,
    }
    storage.write_json(out / "dataset.json", info)
    image_parts(out / "parts", rows.height).clear()
    return report


def _manifest(rows: pl.DataFrame, images: np.ndarray, dataset: Dataset) -> pl.DataFrame:
    """Findings of the prompt are present; all other findings are unknown, or absent if the prompt asked for normal.

    A finding is not labeled absent unless it is known to be absent in the pixel source, too.
    """
    space = dataset.space
    normal = pl.col("findings").list.contains(space.normal or "")
    labels = {
        finding: pl.when(pl.col("findings").list.contains(finding)).then(1).when(normal & absent).then(0).cast(pl.Int8)
        for finding, absent in absent_in_sources(rows, dataset).items()
    }
    empty = {name: pl.lit(None, kind) for name, kind in manifests.SCHEMA.items() if name not in rows.columns}
    known: dict[str, Any] = {
        "split": pl.lit("train"),
        "label_source": pl.lit("synthetic"),
        "sha256": pl.Series([hashlib.sha256(image.tobytes()).hexdigest() for image in images], dtype=pl.String),
        "row": pl.int_range(pl.len(), dtype=pl.Int64),
        "weight": pl.lit(1.0),
        **labels,
    }
    return manifests.validate(rows.select("image_id", "patient_id", "view", **{**empty, **known}), space, where="plan")


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
                "rejected": _reasons(rows["verdict"]),
                "rule": dataclasses.asdict(rule) if rule else None,
            }
        )
    kept = (provenance["verdict"] == KEPT).sum()
    return {
        "schema": REPORT_SCHEMA,
        "counts": {"generated": provenance.height, "kept": kept, "rejected": provenance.height - kept},
        "reasons": _reasons(provenance["verdict"]),
        "targets": targets,
        "limits": dict(screening.limits),
        "shortened": int((provenance["left_out"].list.len() > 0).sum()),
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
    lead = _lead(report)
    numbered = provenance.with_row_index("row")
    examples = {"Kept": numbered.filter(verdict=KEPT), "Rejected": numbered.filter(pl.col("verdict") != KEPT)}
    template = html.environment("trcgl.generate").get_template("synthetic_folder.html.j2")
    body = template.render(
        report=report,
        counts=map(_counts, report["targets"]),
        rules=[_rule(row["rule"]) for row in report["targets"] if row["rule"]],
        limits=[(name, f"{value:.4f}") for name, value in report["limits"].items()],
        examples={
            kind: {
                target: _picture(images[shown["row"].to_numpy()[:_SHOWN]])
                for (target,), shown in rows.group_by("target", maintain_order=True)
            }
            for kind, rows in examples.items()
        },
    )
    style = "figure img { image-rendering: pixelated; max-width: 100%; }"
    page = html.page(f"Synthetic images: {out.resolve().name}", body, lead=lead, phantom=phantom, style=style)
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


def _reasons(verdicts: pl.Series) -> dict[str, int]:
    return tally(verdicts.filter(verdicts != KEPT).str.strip_prefix("rejected: "))


def _counts(target: dict[str, Any]) -> tuple[Any, ...]:
    reasons = "; ".join(f"{reason} {count:,}" for reason, count in target["rejected"].items())
    counts = (target["real"], target["generated"], target["kept"])
    return (target["target"], target["group"] or "", *counts, f"{target['dose']:.2f}", reasons)


def _rule(rule: dict[str, Any]) -> tuple[str, ...]:
    threshold = "" if rule["threshold"] is None else f"{rule['threshold']:.3f}"
    passing = "" if rule["others_pass"] is None else f"{rule['others_pass']:.1%} of {rule['others']:,}"
    return (rule["target"], threshold, rule["rule"], passing)


def _picture(images: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(tiled(images, _SHOWN)).save(stream, format="PNG")
    return html.png_uri(stream.getvalue())
