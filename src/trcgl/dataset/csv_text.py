"""CSV as hospitals and spreadsheets write it: bytes to rows of text, so that every row of the file is read or named.

The text encoding, the separator and the way of escaping quotes are recognized from the content. A row that cannot be
read for certain is refused with its line number; messages never quote a cell, since a cell may hold a report.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from trcgl.core.errors import DataError

SEPARATORS: tuple[str, ...] = (",", ";", "\t", "|")
_PORTION = 20_000
_SAMPLE = 50  # rows by which the separator is recognized
_INVISIBLE = str.maketrans({"\u200b": None, "\u2060": None, "\ufeff": None, "\u00ad": None, "\u00a0": " "})
_ESCAPED = re.compile(r'\\(["\\])')
_SHAPE = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True)
class CsvRows:
    """The rows of a CSV file as text.

    Args:
        header: names of the columns, which may repeat; None where the file has no header.
        frame: every row, its columns named column_1, column_2, ….
        notices: what was recognized and may surprise: the encoding, rows with missing cells.
    """

    header: list[str] | None
    frame: pl.DataFrame
    notices: tuple[str, ...] = ()


class _Malformed(Exception):
    """A row that cannot be read for certain; the text begins with its line number."""


def parse_csv(content: bytes, path: Path, *, known: Sequence[str] = (), has_header: bool = True) -> CsvRows:
    """Read CSV.

    Args:
        content: the bytes of the file.
        path: name of the file in messages.
        known: columns that the caller will use, by which the separator is recognized.
        has_header: whether the first row names the columns.

    Raises:
        DataError: the file is empty or no text, or a row cannot be read for certain; the message names its line.
    """
    text, notices = _decoded(content, path)
    first, separators = 1, SEPARATORS
    if spelled := re.match(r"sep=([^\r\n])(?:\r\n|\r|\n)", text, re.IGNORECASE):  # Excel's own declaration
        text, first, separators = text[spelled.end() :], 2, (spelled[1],)
    separator = _separator(text, separators, known)
    try:
        header, frame, short = _parsed(text, separator, first, has_header)
    except _Malformed as error:
        raise DataError(f"{path}: {error}") from error
    if short:
        notices += (f"{path.name}: rows with fewer cells than the first (missing cells count as blank): {short:,}.",)
    return CsvRows(header, frame, notices)


def _decoded(content: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    """The text of a file, and a sentence on its encoding unless it is UTF-8."""
    if not content.strip():
        raise DataError(f"{path}: the file is empty. Save the table again as UTF-8 CSV or Parquet.")
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise DataError(f"{path}: an Excel workbook or an archive, not CSV. Save the table as UTF-8 CSV or Parquet.")
    zeros = [content[:2000][place::2].count(0) for place in (0, 1)]
    wide = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(content[:2])
    wide = wide or (("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le") if any(zeros) else None)
    encoding, name = (wide, "UTF-16") if wide else ("utf-8", "UTF-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        if wide:
            raise DataError(f"{path}: line {line} is not {name}. Save the table as UTF-8 CSV or Parquet.") from error
        text, name = _western(content, path, line), "Windows-1252"
    said = () if name == "UTF-8" else (f"{path.name} is not UTF-8 and was read as {name}; check names with accents.",)
    return text.removeprefix("\ufeff"), said


def _western(content: bytes, path: Path, line: int) -> str:
    """Text in Windows-1252, unless parts of it are UTF-8, which would then be garbled."""
    as_utf8 = content.decode("utf-8", "surrogateescape")
    mixed = any(ord(letter) > 127 and not 0xDC80 <= ord(letter) <= 0xDCFF for letter in set(as_utf8))
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        mixed = True
    if mixed:
        raise DataError(
            f"{path}: line {line} has bytes that are not UTF-8, and the table as a whole is not Windows-1252. "
            "Save it as UTF-8 CSV or Parquet."
        )
    return text


def _separator(text: str, separators: Sequence[str], known: Sequence[str]) -> str:
    """The separator by which the header has most of the known columns and the rows have as many cells as the header.

    Counting characters in the header would fail where a column is called `note (a; b; c; d)`.
    """
    beginning = list(_first_lines(text))

    def fitness(separator: str) -> tuple[int, float, int]:
        rows = []
        try:
            for row in csv.reader(beginning, delimiter=separator):
                rows.append(row)
        except csv.Error:
            pass  # the rows before it still tell
        rows = [row for row in rows if row]
        if not rows:
            return 0, 0.0, 0
        names = {name.translate(_INVISIBLE).strip() for name in rows[0]}
        width = len(rows[0])
        fitting = sum(1 if _fits(row, width) else 0.6 if 1 < len(row) < width else 0 for row in rows) / len(rows)
        return len(names & set(known)), fitting * (1 if width > 1 else 0.5), width

    return max(separators, key=fitness)


def _first_lines(text: str) -> Iterator[str]:
    for number, line in enumerate(io.StringIO(text, newline="")):
        if number >= _SAMPLE:
            return
        yield line


def _fits(row: Sequence[str], width: int) -> bool:
    return len(row) == width or (len(row) > width and not any(cell.strip() for cell in row[width:]))


def _parsed(text: str, separator: str, first: int, has_header: bool) -> tuple[list[str] | None, pl.DataFrame, int]:
    r"""Header, rows, and the number of rows with missing cells.

    Quotes within a cell are doubled (RFC 4180) or else escaped by backslashes (Spark, MySQL). `first`: number of the
    first line. Only `\"` and `\\` are escapes, so that Windows paths stay.
    """
    try:
        read = _frame(_rows(text, separator, first), has_header)
    except _Malformed:
        if '\\"' not in text:
            raise
        try:
            return _frame(_rows(_unescaped(text), separator, first), has_header)
        except _Malformed:
            pass
        raise
    if '\\"' in text:
        try:
            other = _frame(_rows(_unescaped(text), separator, first), has_header)
        except _Malformed:
            return read
        if bool(other[2]) != bool(read[2]):  # where only one way leaves rows with missing cells, it is the wrong one
            return min(other, read, key=lambda way: way[2])
        bare = pl.all().str.replace_all(r'[\\"]', "")
        if not other[1].select(bare).equals(read[1].select(bare)):
            raise _Malformed(
                f'line {_first_escape(text, first)} can be read in two ways, because \\" may end a cell or not. Write '
                'a quote inside a cell twice (""), or save the table as Parquet.'
            )
    return read


def _frame(rows: Iterator[list[str]], has_header: bool) -> tuple[list[str] | None, pl.DataFrame, int]:
    """Rows as a table, converted in portions to bound the memory that Python's strings need."""
    header = next(rows, []) if has_header else None
    frames: list[pl.DataFrame] = []
    width, short = len(header or ()), 0
    while portion := list(islice(rows, _PORTION)):
        width = width or len(portion[0])
        for row in portion:
            if len(row) != width:
                short += len(row) < width
                row[:] = [*row, *[""] * (width - len(row))][:width]
        columns = zip(*portion, strict=True)
        frames.append(pl.DataFrame({f"column_{place}": column for place, column in enumerate(columns, 1)}))
    empty = pl.DataFrame(schema={f"column_{place}": pl.String for place in range(1, width + 1)})
    names = None if header is None else [name.translate(_INVISIBLE).strip() for name in header]
    return names, pl.concat([empty, *frames]), short


def _first_escape(text: str, first: int) -> int:
    return first + sum(1 for _ in io.StringIO(text[: text.index('\\"')], newline="")) - 1


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: '""' if found[1] == '"' else "\\", text)


def _rows(text: str, separator: str, first: int) -> Iterator[list[str]]:
    """Rows that are not blank; the first decides how many cells a row may have."""
    seen: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            seen.append(line)
            yield line

    reader = csv.reader(lines(), delimiter=separator, strict=True)
    width, number, parts = 0, first, 0
    try:
        for row in reader:
            if len(seen) > 1 and _swallowed(seen, separator):
                raise _Malformed(f"line {number}: {_STRAY}")
            if len(row) > 1 or (row and (width <= 1 or row[0].strip())):
                width = width or len(row)
                if not _fits(row, width) and len(row) > width:
                    raise _Malformed(
                        f"line {number} has {len(row)} cells, the first row {width}. Quote the cells that contain the "
                        f"separator {separator!r}, or save the table as Parquet."
                    )
                # A line break without quotes leaves parts that together have the cells of one row.
                joined = parts + len(row) - 1 if parts else len(row)
                if len(row) < width and joined == width:
                    raise _Malformed(
                        f"line {number} has {len(row)} cells, the first row {width}: it looks like the rest of the row "
                        "before. Quote the cells that contain line breaks, or save the table as Parquet."
                    )
                parts = width if len(row) >= width else joined if joined < width else len(row)
                yield row
            number = first + reader.line_num
            seen.clear()
    except csv.Error as error:
        raise _Malformed(f"line {number}: {_STRAY}") from error


_STRAY = (
    'a quote (") is stray, or never closed. Write a quote inside a cell twice (""), put that cell in quotes, or save '
    "the table as Parquet."
)


def _swallowed(lines: Sequence[str], separator: str) -> bool:
    """Whether a cell of several lines holds what looks like rows of its own: a stray quote has joined them.

    Such a line has as many cells as the line on which the cell began, and at least half of them are built alike
    (`i03.png` below `i02.png`).
    """
    opening, *others = (line.rstrip("\r\n").split(separator) for line in lines)
    if len(opening) < 2:
        return False
    shapes = [(place, _shape(cell)) for place, cell in enumerate(opening) if cell]
    return any(
        len(cells) == len(opening) and 2 * sum(_shape(cells[place]) == shape for place, shape in shapes) >= len(shapes)
        for cells in others
    )


def _shape(cell: str) -> str:
    return _SHAPE.sub(lambda found: "9" if found[0].isdigit() else "a", cell)


def plain_text(values: Iterable[str | None]) -> list[str | None]:
    """Cells without invisible characters and outer blanks; a hard space counts as a space."""
    return [value if value is None else value.translate(_INVISIBLE).strip() for value in values]
