"""`trcgl predict`: files or folders in, a table of calibrated scores out.

    trcgl predict runs/nih scans/ --out scores.csv

Files that cannot be read are listed with their reasons and the rest is done.
"""

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import polars as pl
import torch

from trcgl.core import run
from trcgl.core.errors import DataError, UnreadableImage
from trcgl.core.progress import track
from trcgl.data.radiograph import Fit, read_radiograph
from trcgl.model.folder import LoadedModel, load_model

SCHEMA = "trcgl.scores/1"
Format = Literal["csv", "parquet", "json"]
FORMATS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".json": "json"}


@dataclass(frozen=True)
class Scores:
    """What a model says about a set of radiographs.

    Args:
        findings: in the model's order.
        table: image_id, then `score/<finding>` (Float32, a probability) and `positive/<finding>` (whether the score
            reaches the threshold that was fitted on val; null where none was).
        unreadable: image_id and reason of every file that could not be read.
        calibrated: whether `trcgl evaluate` has fitted temperature and thresholds.
        weights_sha256: of the model.
    """

    findings: tuple[str, ...]
    table: pl.DataFrame
    unreadable: pl.DataFrame
    calibrated: bool
    weights_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value of schema `trcgl.scores/1`."""
        images = []
        for row in self.table.iter_rows(named=True):
            scores = {one: row[f"score/{one}"] for one in self.findings}
            positive = [one for one in self.findings if row[f"positive/{one}"]] if self.calibrated else None
            images.append({"image_id": row["image_id"], "scores": scores, "positive": positive})
        return {
            "schema": SCHEMA,
            "weights_sha256": self.weights_sha256,
            "calibrated": self.calibrated,
            "findings": list(self.findings),
            "images": images,
            "unreadable": self.unreadable.to_dicts(),
            "research_use": "Research use only. Not a medical device.",
        }


def predict(model: Path, paths: Sequence[Path], *, batch_size: int = 64, workers: int = 0) -> Scores:
    """Score radiographs.

    Args:
        model: a run folder, or the model folder in it.
        paths: files, and folders that are searched for files in any depth; hidden ones are left out.
        batch_size: images that are scored at once, on the GPU where there is one.
        workers: threads that decode; 0 takes one per CPU.

    Returns:
        One row per readable file. An image_id is the path of the file below the folder that was given, or below the
        common folder where several paths were given.

    Raises:
        CheckpointError: the model folder is missing or damaged.
        DataError: a path does not exist, or not one file can be read.
    """
    files = find_files(paths)
    loaded = load_model(_model_folder(model), device="cuda" if torch.cuda.is_available() else "cpu")
    read = _read_ahead(files, loaded.image_size, cast(Fit, loaded.fit), 2 * batch_size, workers)
    read = track(read, total=len(files), what="scoring radiographs")
    ids: list[str] = []
    unreadable: list[dict[str, str]] = []
    scores = [np.empty((0, len(loaded.space.findings)), np.float32)]
    while part := list(islice(read, batch_size)):
        pictures = {name: picture for name, picture in part if not isinstance(picture, str)}
        unreadable += [{"image_id": name, "reason": reason} for name, reason in part if isinstance(reason, str)]
        if pictures:
            ids += pictures
            scores.append(loaded.score(np.stack(list(pictures.values())), batch_size=batch_size))
    if not ids:
        raise DataError(f"not one of {len(files)} files can be read, the first because: {unreadable[0]['reason']}")
    return Scores(
        loaded.space.findings,
        _table(ids, np.concatenate(scores), loaded),
        pl.DataFrame(unreadable, schema={"image_id": pl.String, "reason": pl.String}),
        loaded.thresholds is not None,
        loaded.info["weights_sha256"],
    )


def find_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Image_id to file, in order of the image_id.

    Raises:
        DataError: no path was given, one does not exist, or a folder holds no file.
    """
    if not paths:
        raise DataError("no file or folder was given. Name at least one: trcgl predict RUN PATH ...")
    found: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder. Check the path.")
        inside = _inside(path) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path}: this folder holds no file. Name the folder of the radiographs.")
        found |= {Path(os.path.abspath(one)) for one in inside}
    roots = {os.path.abspath(path if Path(path).is_dir() else Path(path).parent) for path in paths}
    root = os.path.commonpath(roots)
    return {name: path for name, path in sorted((path.relative_to(root).as_posix(), path) for path in found)}


def write_scores(scores: Scores, out: Path, format: Format | None = None) -> list[Path]:
    """Write the table, and beside it `<name>.unreadable.csv` where files could not be read (JSON holds both).

    Args:
        scores: what `predict` returned.
        out: the file; it must be new.
        format: None takes it from the ending of `out`.

    Returns:
        The files that were written.

    Raises:
        DataError: a file is there already, the ending names no format, or the disk is full.
    """
    out = Path(out)
    kind = check_out(out, format)
    with run.atomic(out) as aside:
        if kind == "parquet":
            scores.table.write_parquet(aside)
        else:
            aside.write_text(as_text(scores, kind), encoding="utf-8")
    if kind == "json" or not scores.unreadable.height:
        return [out]
    with run.atomic(_beside(out)) as aside:
        scores.unreadable.write_csv(aside)
    return [out, _beside(out)]


def check_out(out: Path, format: Format | None = None) -> Format:
    """The format that `out` will have.

    Raises:
        DataError: `out` or the list of unreadable files beside it is there already, or the ending names no format.
    """
    kind = format or FORMATS.get(out.suffix.lower())
    if kind is None:
        raise DataError(f"{out}: the ending names no format. Use {', '.join(FORMATS)}, or say --format.")
    for path in (out, _beside(out)):
        if path.exists():
            raise DataError(f"{path} is there already. Choose another --out, or remove it yourself.")
    return kind


def as_text(scores: Scores, format: Literal["csv", "json"]) -> str:
    """The table as CSV, or everything as JSON."""
    if format == "csv":
        return scores.table.write_csv(float_precision=6)
    return json.dumps(scores.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _read_ahead(
    files: dict[str, Path], size: int, fit: Fit, ahead: int, workers: int
) -> Iterator[tuple[str, np.ndarray | str]]:
    """Every file's picture, or the reason that there is none; `ahead` files are decoded while the caller scores."""

    def read(path: Path) -> np.ndarray | str:
        try:
            return read_radiograph(path, size=size, fit=fit).pixels
        except UnreadableImage as error:
            return str(error).removeprefix(f"{path}: ")

    pool = ThreadPoolExecutor(workers or os.cpu_count())
    waiting: deque[tuple[str, Future[np.ndarray | str]]] = deque()
    try:
        for name, path in files.items():
            waiting.append((name, pool.submit(read, path)))
            if len(waiting) > ahead:
                name, future = waiting.popleft()
                yield name, future.result()
        for name, future in waiting:
            yield name, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _table(ids: list[str], scores: np.ndarray, model: LoadedModel) -> pl.DataFrame:
    findings = model.space.findings
    columns: dict[str, pl.Series] = {"image_id": pl.Series(ids, dtype=pl.String)}
    for place, finding in enumerate(findings):
        columns[f"score/{finding}"] = pl.Series(scores[:, place], dtype=pl.Float32)
    for place, finding in enumerate(findings):
        reached = scores[:, place] >= model.thresholds[finding] if model.thresholds else [None] * len(ids)
        columns[f"positive/{finding}"] = pl.Series(reached, dtype=pl.Boolean)
    return pl.DataFrame(columns)


def _inside(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".")]
        found += [Path(parent, one) for one in names if not one.startswith(".")]
    return found


def _model_folder(folder: Path) -> Path:
    inner = Path(folder) / "model"
    return inner if inner.is_dir() else Path(folder)


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.unreadable.csv")
