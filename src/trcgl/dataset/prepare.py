"""`trcgl prepare`: turn the label table and radiographs of an archive into a dataset folder.

    trcgl prepare nih --root NIH --out nih
    trcgl prepare padchest --root PADCHEST --out padchest --manifest-only

The label table is read, several processes decode the radiographs into parts, patients are split, and the folder is
written, `dataset.json` last. The same command again resumes; other settings are refused.
"""

import dataclasses
import hashlib
import importlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError, Reason, RecipeError
from trcgl.core.lock import locked
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.parts import clear_parts
from trcgl.core.registry import unknown
from trcgl.dataset import manifest as manifests
from trcgl.dataset.boxes import to_fractions
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.finding_counts import tally
from trcgl.dataset.patient_ids import one_spelling
from trcgl.dataset.preparation_report import describe_preparation, write_page
from trcgl.dataset.sources import SOURCES, SourceTable
from trcgl.dataset.split import split_patients
from trcgl.dataset.store import SCHEMA, check_space, file_table, split_table, write_images
from trcgl.imaging.gray import PIXEL_RULE
from trcgl.imaging.notes import NOTES

SETTINGS_SCHEMA = "trcgl.prepare/1"
_PIXELS = {
    "kind": pl.String,
    **dict.fromkeys(("height", "width"), pl.Int64),
    **dict.fromkeys(("scale_x", "scale_y", "offset_x", "offset_y", "low", "high"), pl.Float64),
    "side": pl.Int64,
    "turn": pl.Int64,
}
"""Columns of `pixels.parquet` after image_id: how each image was read and made square."""


@dataclass(frozen=True)
class PrepareOptions:
    """Options of `trcgl prepare` that all sources share."""

    size: int = 224
    """Side of the stored square images, in pixels."""
    fit: Literal["letterbox", "squash"] = "letterbox"
    """Make images square by padding with black (`letterbox`) or by distorting them (`squash`, as in the paper)."""
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Shares of patients in train, val and test, for patients without a split in the archive."""
    seed: int = 0
    """Seed for dividing patients into train, val and test."""
    accept: tuple[Reason, ...] = ()
    """Read files that are refused for these reasons: blank, for-processing (raw detector values), body-part (not the
    chest), modality (not radiography)."""
    manifest_only: bool = False
    """Prepare the labels only, without images."""
    name: str = ""
    """Name of the dataset in reports; default: the name of the source."""
    workers: int = 0
    """Number of decoding processes; 0: one per CPU. With `--cluster slurm`: number of workers to submit jobs for. The
    result does not depend on it."""
    cluster: str | None = None
    """Dask cluster that decodes the images: the address of its scheduler (tcp://host:8786), a scheduler file, or slurm.
    The result does not depend on it."""

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096:
            raise RecipeError(f"--size {self.size}: give a side between 8 and 4096 pixels.")
        if self.workers < 0:
            raise RecipeError(f"--workers {self.workers}: give 0 (one per CPU) or more.")


def prepare(
    source: str, root: Path | None, out: Path, options: PrepareOptions | None = None, source_options: Any = None
) -> dict[str, Any]:
    """Write a dataset folder.

    `root`: folder of the archive; None where the source renders its images. `out`: the dataset folder: new, empty, or
    interrupted with the same settings. `source_options`: an instance of the source's `Options`.
    """
    options, out = options or PrepareOptions(), Path(out)
    if source not in SOURCES:
        raise RecipeError(unknown("source", source, SOURCES))
    module = importlib.import_module(SOURCES[source])
    source_options = source_options or module.Options()
    if root and options.cluster is not None:
        root = Path(root).absolute()  # workers run in other folders
    table: SourceTable = module.read(Path(root) if root else None, source_options)
    if not table.rows.height:
        reasons = [f"{reason} ({number})" for reason, number in tally(table.dropped["reason"]).items()][:3]
        why = "; ".join(reasons) or "the table is empty"
        raise DataError(f"{root}: none of {table.dropped.height} rows can be used: {why}.")
    patients, respelled = one_spelling(table.rows["patient_id"])
    table = dataclasses.replace(table, rows=table.rows.with_columns(patients), notices=(*table.notices, *respelled))
    for path in table.rows["path"].drop_nulls():
        manifests.check_path(path, f"{source} table")
    # A contradiction in the archive's own split must show now, not after hours of decoding.
    split_patients(table.rows, table.space, fractions=options.fractions, seed=options.seed)
    if not options.manifest_only:
        check_space(out, table.rows.height, options.size, "a smaller --size")
    settings = {
        "schema": SETTINGS_SCHEMA,
        "source": source,
        **dataclasses.asdict(options),
        "source options": dataclasses.asdict(source_options),
        "rows of the label table": hashlib.sha256(table.rows.write_csv().encode()).hexdigest(),
    }
    del settings["workers"], settings["cluster"]  # which do not change the content of the folder
    with locked(out):
        # Options that 0.2.0 did not have count as left out.
        added = {"accept": [], "source options": json.loads(json.dumps(dataclasses.asdict(module.Options())))}

        def current(stored: dict[str, Any]) -> dict[str, Any]:
            return {**added, **stored, "source options": {**added["source options"], **stored["source options"]}}

        if storage.claim_settings(out, "prepare.json", settings, current) and (out / "dataset.json").exists():
            return storage.read_json(out / "report.json")
        return _write(source, table, table.root or root, out, options)


def _write(source: str, table: SourceTable, root: Path | None, out: Path, options: PrepareOptions) -> dict[str, Any]:
    space = table.space
    rows, dropped = table.rows.with_columns(pl.lit(None, pl.String).alias("sha256")), table.dropped
    pixels, files_read = None, dict[str, int]()
    accept = table.accept.union(options.accept)
    if not options.manifest_only:
        rows, dropped, pixels, files_read = _images(table, root, out, options, accept)
    rows = rows.with_columns(split_patients(rows, space, fractions=options.fractions, seed=options.seed))
    row = pl.int_range(rows.height, dtype=pl.Int64) if pixels is not None else pl.lit(None, pl.Int64)
    manifest = manifests.validate(rows.with_columns(row.alias("row")), space, where=f"{source} table")
    train = counts(manifests.taking_part(manifest.filter(pl.col("split") == "train")), space)
    space = space.with_groups(dict(zip(space.findings, train.positives.tolist(), strict=True)), train.rows_with_any)
    boxes, lost = to_fractions(table, manifest, pixels, options.fit)
    beside = {"manifest.parquet": manifest, "boxes.parquet": boxes, "pixels.parquet": pixels}
    for name, frame in beside.items():
        if frame is not None:
            storage.write_parquet(out / name, frame)
    report = describe_preparation(source, table, manifest, space, dropped, boxes, lost) | {"files": files_read}
    storage.write_json(out / "report.json", report)
    write_page(out / "report.html", report, manifest, space, name=options.name or source)
    files = [name for name, frame in beside.items() if frame is not None] + ["report.json", "report.html"]
    files += ["images.npy"] if pixels is not None else []
    info = {
        "schema": SCHEMA,
        "name": options.name or source,
        "source": source,
        "label_space": space.to_dict(),
        "image_size": options.size,
        "fit": options.fit,
        "accept": sorted(accept),
        "pixel_rule": f"{PIXEL_RULE}; made square by {options.fit}",
        "counts": report["counts"],
        "splits": split_table(manifest),
        "cooccurrence": train.to_dict(),
        "files": file_table(out, files),
        "license": table.license,
        "notes": list(table.notes),
        "research_use": RESEARCH_USE,
        # Left out at its default, as in datasets of 0.2.0.
        **({"headline": table.headline} if table.headline != "AUC" else {}),
    }
    storage.write_json(out / "dataset.json", info)
    clear_parts(out / "parts")
    return report


def _images(
    table: SourceTable, root: Path | None, out: Path, options: PrepareOptions, accept: frozenset[str]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """Decode all images and write images.npy.

    Returns:
        The readable rows, the dropped rows, `pixels.parquet`, and what was ignored, guessed or corrected in how many
        files.
    """
    from trcgl.imaging.decode import Decoder, decode

    paths = tuple(table.rows["path"])
    decoder = Decoder(out / "parts", Path(root) if root else out, paths, table.load, options.size, options.fit, accept)
    decode(decoder, options.workers, options.cluster)
    records = [record for part in range(decoder.parts) for record in decoder.records(part)]
    for record, path in zip(records, paths, strict=True):
        if "reason" in record and path in table.missing:
            record["reason"] = f"{path}: {table.missing[path]}"
    readable = np.array(["reason" not in record for record in records])
    refused = [record for record in records if "reason" in record]
    if not readable.any():
        clear_parts(out / "parts")
        raise DataError(
            f"{decoder.root}: none of {len(records)} images can be read, the first because: {records[0]['reason']}. "
            "Is --root the folder of the archive? --manifest-only prepares the labels without images."
        )
    write_images(out / "images.npy", map(decoder.pictures, range(decoder.parts)), int(readable.sum()), options.size)
    rows = table.rows.filter(readable)
    unreadable = table.rows.filter(~readable).select(
        "image_id",
        "path",
        reason=pl.Series([record["reason"] for record in refused], dtype=pl.String),
        code=pl.Series([record.get("not accepted") for record in refused], dtype=pl.String),
    )
    records = [record for record in records if "reason" not in record]
    notes = Counter(code for record in records for code in record["notes"])
    pixels = pl.DataFrame(
        [
            (record["kind"], *record["size"], *record["placement"], *record["range"], options.size, record["turn"])
            for record in records
        ],
        schema=_PIXELS,
        orient="row",
    )
    pixels.insert_column(0, rows["image_id"])
    rows = rows.with_columns(sha256=pl.Series([record["sha256"] for record in records], dtype=pl.String))
    return (
        rows,
        pl.concat([table.dropped, unreadable], how="diagonal"),
        pixels,
        {NOTES[code]: notes[code] for code in sorted(notes)},
    )
