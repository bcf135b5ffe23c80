"""Write a synthetic folder: a dataset folder with `provenance.parquet` and a report; `dataset.json` is written last."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import UInt8

from trcgl.core import storage
from trcgl.core.notice import RESEARCH_USE
from trcgl.dataset import manifest as manifests
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import SCHEMA, Dataset
from trcgl.dataset.synthetic_rows import balancing, sources
from trcgl.generate.sampling_run import image_parts
from trcgl.generate.screen import Screening
from trcgl.generate.synthesis_report import describe_synthesis, write_page

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
    manifest = _manifest(rows, images, dataset.space)
    provenance = rows.select(
        *("image_id", "source_image_id", "target", "prompt", "seed", "guidance"),
        guided_to=pl.lit(options["guided_to"], pl.Float64),
        steps=pl.lit(options["steps"], pl.Int64),
        solver=pl.lit(options["solver"]),
        generator=pl.lit(record["generator"]),
    ).hstack(screening.table)
    for name, frame in (("manifest.parquet", manifest), ("provenance.parquet", provenance)):
        with storage.atomic(out / name) as aside:
            frame.write_parquet(aside)
    notes = [] if balancing(dataset.space) else [_NO_BALANCE]
    train = dataset.split("train")
    real_images = {target: sources(train, dataset.space, target).height for target in rows["target"].unique()}
    report = describe_synthesis(dataset.space, real_images, provenance, screening, options, notes)
    write_page(out, report, images, provenance, phantom=dataset.info["source"] == "phantom")
    storage.write_json(out / "report.json", report)
    files = ("images.npy", "manifest.parquet", "provenance.parquet", "report.json", "report.html")
    patients = manifest["patient_id"].unique().to_list()
    empty = {"images": 0, "patients": 0, "patient_digest": storage.digest([])}
    written = {"images": manifest.height, "patients": len(patients), "patient_digest": storage.digest(patients)}
    info = {
        "schema": SCHEMA,
        "name": out.resolve().name,
        "source": "synthetic",
        "label_space": dataset.space.to_dict(),
        "image_size": images.shape[1],
        "fit": dataset.info["fit"],
        "pixel_rule": "synthetic, 8 bits",
        "counts": report["counts"],
        "splits": {"train": written, "val": empty, "test": empty},
        "files": {
            name: {"bytes": (out / name).stat().st_size, "sha256": storage.sha256_file(out / name)} for name in files
        },
        "synthetic": {**record, "environment": storage.environment()},
        "license": license,
        "notes": notes,
        "research_use": RESEARCH_USE,
    }
    storage.write_json(out / "dataset.json", info)
    image_parts(out / "parts", rows.height).clear()
    return report


def _manifest(rows: pl.DataFrame, images: np.ndarray, space: LabelSpace) -> pl.DataFrame:
    """Findings of the prompt are present; all other findings are unknown, or absent if the prompt asked for normal."""
    normal = pl.col("findings").list.contains(space.normal or "")
    labels = {
        finding: pl.when(pl.col("findings").list.contains(finding)).then(1).when(normal).then(0).cast(pl.Int8)
        for finding in space.findings
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
    return manifests.validate(rows.select("image_id", "patient_id", **{**empty, **known}), space, where="plan")
