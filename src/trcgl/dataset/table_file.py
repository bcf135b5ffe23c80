"""A label table: a CSV or Parquet file whose columns are all text, and the reasons why a column cannot be used."""

import gzip
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.csv_text import parse_csv

_SHOWN = 40  # columns, and characters of a column name, that a message shows


@dataclass(frozen=True)
class LabelTable:
    """An open table.

    Args:
        path: the file.
        frame: every usable column as text; blank cells are null.
        notices: what was recognized and may surprise, for instance the encoding.
        unusable: name of a column to the reason why it is not in `frame`.
    """

    path: Path
    frame: pl.DataFrame
    notices: tuple[str, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)

    def require(self, needed: Iterable[str], remedy: str = "") -> None:
        """Raise a DataError for the first column that is missing or unusable.

        `remedy`: sentence that follows a missing column; the message lists the columns of the table before it.
        """
        for name in needed:
            if name in self.unusable:
                raise DataError(f"{self.path}: column {name!r} {self.unusable[name]}")
            if name not in self.frame.columns:
                raise DataError(
                    f"{self.path}: column {name!r} is missing; the table has {column_names(self.frame.columns)}."
                    + (f" {remedy}" if remedy else "")
                )

    def has(self, name: str) -> bool:
        """Whether a column that is not required can be used; an unusable one is refused."""
        if name in self.unusable:
            self.require([name])
        return name in self.frame.columns

    def renamed(self, names: Mapping[str, str]) -> "LabelTable":
        """The table with other names of columns; a column that is missing is left out."""
        return replace(self, frame=self.frame.rename(dict(names), strict=False))


def read_table(
    path: Path,
    *,
    needed: Sequence[str] = (),
    known: Sequence[str] = (),
    has_header: bool = True,
    list_separator: str = "|",
) -> LabelTable:
    """Read a table: CSV (plain or .gz) or Parquet.

    Args:
        path: the file.
        needed: columns without which the table is refused.
        known: further columns by which the separator of CSV is recognized; they may be missing.
        has_header: whether the first row of a CSV file names its columns, else they are called column_1, ….
        list_separator: separator that joins the elements of a list column of Parquet.

    Raises:
        DataError: the file cannot be read, a row cannot be read for certain (with its line), or a needed column is
            missing or unusable.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".parquet":
            table = _from_parquet(path, list_separator)
        else:
            content = path.read_bytes()
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
            table = _from_csv(content, path, [*needed, *known], has_header)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error) as error:
        why = str(error).strip().split("\n")[0]
        raise DataError(f"{path}: cannot be read as a table ({why}). Save it as UTF-8 CSV or Parquet.") from error
    blank = pl.col(pl.String).replace(["", r"\N"], None)  # \N: how MySQL writes NULL
    table = replace(table, frame=table.frame.with_columns(blank))
    table.require(needed)
    return table


def refuse_cell(path: Path, row: str, column: str, value: str | None, remedy: str) -> NoReturn:
    """Raise a DataError about a cell; a long text, which may be a report, is not quoted."""
    value = value or ""
    shown = repr(value) if len(value) <= _SHOWN else f"a text of {len(value):,} characters"
    raise DataError(f"{path}: image {row!r} has {column} = {shown}; {remedy}")


def column_names(names: Sequence[str]) -> str:
    """Names of columns for a message; a file without a header, or of one line, would otherwise be quoted whole."""
    shown = [repr(name if len(name) <= _SHOWN else f"{name[: _SHOWN - 1]}…") for name in names[:_SHOWN]]
    return ", ".join([*shown, *([f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else [])])


def _from_csv(content: bytes, path: Path, known: Sequence[str], has_header: bool) -> LabelTable:
    parsed = parse_csv(content, path, known=known, has_header=has_header)
    header = parsed.header if parsed.header is not None else parsed.frame.columns
    places = [
        [place for place, name in enumerate(header, 1) if name == given] if given else [column]
        for column, given in enumerate(header, 1)
    ]
    # Both of two columns of one name get another, so that neither is taken for the column that was asked for.
    names = [
        given if given and len(same) == 1 else f"{given} (column {column})".lstrip()
        for column, (given, same) in enumerate(zip(header, places, strict=True), 1)
    ]
    twice = {
        given: f"occurs {len(same)} times (columns {', '.join(map(str, same))}). Rename or remove one."
        for given, same in zip(header, places, strict=True)
        if len(same) > 1
    }
    frame = parsed.frame.rename(dict(zip(parsed.frame.columns, names, strict=True)))
    return LabelTable(path, frame, parsed.notices, twice)


def _from_parquet(path: Path, list_separator: str) -> LabelTable:
    table = pl.read_parquet(path)
    unusable, columns = {}, []
    for name, kind in table.schema.items():
        if isinstance(kind, (pl.List, pl.Array)) and not kind.inner.is_nested() and kind.inner != pl.Binary:
            elements = table[name].cast(pl.List(pl.String))
            if elements.explode().str.contains(list_separator, literal=True).any():
                unusable[name] = (
                    f"has lists in which an element contains the delimiter {list_separator!r}. Name a text that occurs "
                    "in no element with --source.delimiter."
                )
            else:
                columns.append(elements.list.join(list_separator))
        elif isinstance(kind, pl.Struct):
            fields = ", ".join(part.name for part in kind.fields)
            unusable[name] = (
                f"holds structs ({fields}), as Hugging Face datasets do for images. Write the images to files and "
                "their paths to a column of text."
            )
        elif kind.is_nested() or kind in (pl.Binary, pl.Object):
            unusable[name] = f"is {kind}, not text, numbers or a list of texts. Convert it to text."
        else:
            columns.append(table[name].cast(pl.String, strict=False))
    return LabelTable(path, pl.DataFrame(columns), (), unusable)
