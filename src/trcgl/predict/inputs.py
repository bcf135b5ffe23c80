"""The radiographs to score: files, folders, or a table with a column of paths."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.dataset.image_files import SEVERAL, ImageFiles
from trcgl.dataset.table_file import read_table
from trcgl.imaging.radiograph import kind_of
from trcgl.predict.options import PredictOptions

TABLES = (".csv", ".csv.gz", ".tsv", ".parquet")


@dataclass(frozen=True)
class Inputs:
    """Radiographs to score."""

    files: dict[str, Path]
    """image_id to file, sorted by image_id."""
    studies: dict[str, str] | None = None
    """image_id to the study in the table; None without a column of studies."""


def find_inputs(paths: Sequence[Path], options: PredictOptions) -> Inputs:
    """Find the radiographs in files and folders, or in one table, where the image_id is the path as written.

    Raises:
        DataError: no path was given, a path does not exist, a folder holds no file, a column is missing, or the table
            names no file, names a file that several files fit, gives one file two studies, or gives a file no study.
    """
    tables = [path for path in map(Path, paths) if path.name.lower().endswith(TABLES) and not path.is_dir()]
    if tables and len(paths) > 1:
        raise DataError(f"{tables[0]}: name one table alone, or files and folders, not both.")
    if tables:
        return _listed(tables[0], options)
    if options.study_column is not None or options.root is not None:
        raise DataError("--study-column and --root belong to a table of paths. Name a .csv, .tsv or .parquet file.")
    return Inputs(find_files(paths))


def find_files(paths: Sequence[Path]) -> dict[str, Path]:
    r"""Map image_id to file, sorted by image_id.

    Bytes of a name that are not UTF-8, as on old shares, are escaped in the image_id, for instance `\xfc`. Linked
    folders are searched. A folder that cannot be listed is among the files and becomes an unreadable file.
    """
    if not paths:
        raise DataError("no file or folder was given. Name at least one: trcgl predict RUN PATH ...")
    found: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder. Check the path.")
        if not path.is_dir() and not path.is_file():
            raise DataError(f"{path}: neither a file nor a folder, but a pipe or a device. Name files or folders.")
        inside = _inside(path) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path}: this folder holds no file. Name the folder of the radiographs.")
        found |= {Path(os.path.abspath(file)) for file in inside}
    roots = {os.path.abspath(path if Path(path).is_dir() else Path(path).parent) for path in paths}
    root = os.path.commonpath(roots)
    names = [os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace") for path in found]
    return dict(sorted(zip(names, found, strict=True)))


def fingerprint(name: str, path: Path) -> str:
    """Name, size and modification time of a file, which tell a changed file without reading it."""
    try:
        status = os.stat(path)
    except OSError:
        return f"{name}\0missing"
    return f"{name}\0{status.st_size}\0{status.st_mtime_ns}"


def refuse_pictures(files: Iterable[tuple[str, Path]], why: str) -> None:
    """Refuse PNG and JPEG files where DICOM is required, before anything is scored."""
    for name, path in track(files, what="looking at files"):
        if not path.is_file():  # listed as unreadable when it is read
            continue
        try:
            with open(path, "rb") as handle:
                kind = kind_of(handle.read(132))
        except OSError:
            continue
        if kind in ("png", "jpeg"):
            raise DataError(f"{name}: {why}")


def _inside(folder: Path, above: frozenset[str] = frozenset()) -> list[Path]:
    """The files in any depth; a folder that cannot be listed is returned itself and becomes an unreadable file."""
    whole = os.path.realpath(folder)
    if whole in above:  # a link to one of its parent folders
        return []
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return [folder]
    found = []
    for path in (folder / name for name in names):
        if os.path.isdir(path):
            found += _inside(path, above | {whole})
        elif os.path.isfile(path) or not os.path.exists(path):  # a dangling link becomes an unreadable file,
            found.append(path)  # but a pipe or a socket, which could block the reader, is left out
    return found


def _listed(table: Path, options: PredictOptions) -> Inputs:
    path_column, study_column, root = options.path_column, options.study_column, options.root or table.parent
    opened = read_table(table, known=[path_column, *([study_column] if study_column else [])])
    opened.require([path_column], "Name the column of paths with --path-column.")
    opened.require([study_column] if study_column else [])
    for notice in opened.notices:
        print(f"notice: {notice}", file=sys.stderr)
    rows = opened.frame
    columns = {"path": pl.col(path_column).str.strip_chars()}
    if study_column:
        columns["study"] = pl.col(study_column).str.strip_chars()
    rows = rows.select(**columns).filter(pl.col("path").is_not_null() & (pl.col("path") != "")).unique().sort("path")
    if not rows.height:
        raise DataError(f"{table}: column {path_column!r} names no file. Fill it, or name another with --path-column.")
    below = ImageFiles(Path(root))
    files = {}
    for name in rows["path"]:
        found, why = below.find(name)
        if why and why.startswith(SEVERAL):
            raise DataError(f"{table}: {name!r}: {why}.")
        files[name] = Path(os.path.abspath(Path(root) / found))
    if not study_column:
        return Inputs(files)
    if (twice := rows.filter(pl.col("path").is_duplicated())).height:
        raise DataError(f"{table}: {twice['path'][0]!r} has two values of {study_column!r}. Keep one.")
    if (bare := rows.filter(pl.col("study").is_null() | (pl.col("study") == ""))).height:
        raise DataError(f"{table}: {bare['path'][0]!r} has no {study_column!r}. Fill it, or leave the row out.")
    return Inputs(files, dict(rows.iter_rows()))
