"""The labels of the `table` source: lists of findings in one column, or a column per finding."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.csv_text import plain_text
from trcgl.dataset.table_file import refuse_cell

BLANK = ("nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat")
"""Words for a cell without a value, as spreadsheets, databases and data frames write it."""
CELLS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "present", "positive"), "present"),
    **dict.fromkeys(("0", "false", "f", "no", "n", "absent", "negative"), "absent"),
    **dict.fromkeys(("-1", "uncertain"), "uncertain"),
    **dict.fromkeys(BLANK, "blank"),
}
MEANING = {"present": 1, "absent": 0, "unknown": None}
DELIMITERS = {";": "';'", ",": "','", "|": "'|'", "\n": "$'\\n'", "\t": "$'\\t'"}
"""Common delimiters, and how a shell takes them."""
_PRINTED = re.compile(r"^[\[({]\s*(?:['\"].*['\"]\s*,?\s*)?[\])}]$|^\[.*\]$", re.DOTALL)
_TEXTS = r"""(?:'[^']*'|"[^"]*")"""
_ARRAY = re.compile(rf"^\[\s*{_TEXTS}(?:\s+{_TEXTS})+\s*\]$")


def listed(
    cells: pl.Series, images: pl.Series, delimiter: str, chosen: Sequence[str], path: Path
) -> tuple[pl.Series, tuple[str, ...]]:
    """The findings of every row, from cells such as `Nodule|Mass`, and what the user should check.

    Printed lists (`['Nodule', 'Mass']`, of Python, JSON or numpy) are read as lists. Words for "no value" count as
    blank unless they are among the `chosen` findings.

    Raises:
        DataError: a printed list cannot be read, or cells are delimited otherwise than by `delimiter`.
    """
    found: dict[str | None, list[str]] = {None: []}
    printed, blanks = set(), set()
    for cell, image in zip(cells, images, strict=True):
        if cell in found:
            continue
        text = cell.strip()
        if _PRINTED.match(text) and text not in chosen:
            parts = _printed_list(text)
            if parts is None:
                remedy = f"it looks like a list, but cannot be read. Write the findings separated by {delimiter!r}."
                refuse_cell(path, image, str(cells.name), cell, remedy)
            printed.add(cell)
        else:
            parts = text.split(delimiter)
        names = [name for name in plain_text(parts) if name]
        found[cell] = [name for name in names if name.lower() not in BLANK or name in chosen]
        if len(found[cell]) < len(names):
            blanks.add(cell)
    lists = pl.Series("findings", [found[cell] for cell in cells], pl.List(pl.String))
    _refuse_other_delimiter(set(lists.explode().drop_nulls()), delimiter, chosen, path)
    notices = []
    if printed:
        notices.append(f"{cells.is_in(list(printed)).sum():,} cells of {cells.name!r} were read as printed lists.")
    if blanks:
        notices.append(
            f"{cells.is_in(list(blanks)).sum():,} cells of {cells.name!r} say nan, none or n/a, which counts as blank. "
            'If that word means "nothing found", name it with --source.normal.'
        )
    return lists, tuple(notices)


def from_lists(lists: pl.Series, names: Sequence[str], blank: str) -> tuple[tuple[str, ...], pl.DataFrame, pl.Series]:
    """Names of the findings, an Int8 column each, and the reason why a row is set aside.

    `names`: the findings to take; if empty, all that occur, the most frequent first.
    """
    occurring = lists.explode().drop_nulls().rename("name").value_counts()
    names = tuple(names) or tuple(occurring.sort(["count", "name"], descending=[True, False])["name"])
    empty = lists.list.len() == 0
    nothing = pl.lit(MEANING[blank], pl.Int8)
    given = pl.DataFrame({"": lists, " ": empty})  # names that no finding can have
    there = {name: pl.col("").list.contains(name).cast(pl.Int8) for name in names}
    labels = given.select(
        pl.when(pl.col(" ")).then(nothing).otherwise(is_in).alias(name) for name, is_in in there.items()
    )
    absent = labels.select(pl.all_horizontal(pl.all().eq(0).fill_null(False))).to_series() & ~empty
    unknown = labels.select(pl.all_horizontal(pl.all().is_null())).to_series()
    return names, labels, _aside((absent, "none of the label space's findings"), (unknown, "every finding is unknown"))


def from_columns(
    table: pl.DataFrame,
    images: pl.Series,
    names: Sequence[str],
    *,
    normal: str,
    blank: str,
    uncertain: str,
    path: Path,
) -> tuple[pl.DataFrame, pl.Series]:
    """An Int8 column per finding from a column per finding, and the reason why a row is set aside.

    Where the finding `normal` is present, the blank cells of the row are absent.

    Raises:
        DataError: a cell is no label.
    """
    meaning = {**MEANING, "blank": MEANING[blank], "uncertain": MEANING[uncertain]}
    trimmed = pl.col(*names).str.strip_chars().str.to_lowercase().replace("", None)
    trimmed = trimmed.str.replace(r"^(-?[01])\.0+$", "${1}")
    cells = table.select(trimmed.fill_null("nan"))
    for name in names:
        strange = ~cells[name].is_in(list(CELLS))
        if strange.any():
            place = strange.arg_true()[0]
            remedy = "write 1 (present), 0 (absent), -1 (uncertain) or leave it blank."
            refuse_cell(path, images[place], name, table[name][place], remedy)
    number = {cell: meaning[what] for cell, what in CELLS.items()}
    read = {name: pl.col(name).replace_strict(number, return_dtype=pl.Int8) for name in names}
    if normal:
        healthy = read[normal].eq(1).fill_null(False)
        read = {
            name: pl.when(healthy & pl.col(name).is_in(BLANK)).then(pl.lit(0, pl.Int8)).otherwise(label)
            for name, label in read.items()
        }
    labels = cells.select(label.alias(name) for name, label in read.items())
    unknown = labels.select(pl.all_horizontal(pl.all().is_null())).to_series()
    return labels, _aside((unknown, "every finding is unknown"))


def twins(names: Sequence[str]) -> tuple[str, ...]:
    """A sentence on each pair of findings whose names differ only in case, blanks or hyphens."""
    same: Mapping[str, list[str]] = defaultdict(list)
    for name in names:
        same[re.sub(r"[\s_-]+", " ", name).casefold()].append(name)
    return tuple(
        f"{' and '.join(map(repr, spelled))} are separate findings, which differ only in spelling. Make them one in "
        "the table if they mean the same."
        for spelled in same.values()
        if len(spelled) > 1
    )


def _aside(*reasons: tuple[pl.Series, str]) -> pl.Series:
    frame = pl.DataFrame({str(place): holds for place, (holds, _) in enumerate(reasons)})
    said = [pl.when(pl.col(str(place))).then(pl.lit(why)) for place, (_, why) in enumerate(reasons)]
    return frame.select(set_aside=pl.coalesce(said))["set_aside"]


def _printed_list(text: str) -> list[str] | None:
    """The texts of a list as Python, JSON or numpy print it; None if it is no list of texts."""
    if _ARRAY.match(text):  # Python would join the texts, which no comma separates
        return [part[1:-1] for part in re.findall(_TEXTS, text)]
    for parse in (json.loads, ast.literal_eval):
        try:
            parts = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if parts == {} or (isinstance(parts, (list, tuple, set)) and all(isinstance(part, str) for part in parts)):
            return sorted(parts) if isinstance(parts, set) else list(parts)
    return None


def _refuse_other_delimiter(labels: set[str], delimiter: str, chosen: Sequence[str], path: Path) -> None:
    """Refuse labels such as `Nodule;Mass` if a part of one is a label or part of another label too."""
    for other, typed in DELIMITERS.items():
        joined = {label: {part.strip() for part in label.split(other)} for label in labels if other in label}
        parts: dict[str, set[str]] = defaultdict(set)
        for label, of_label in joined.items():
            for part in of_label - {""}:
                parts[part].add(label)
        again = {part for part, where in parts.items() if part in labels or len(where) > 1}
        for label in sorted(joined):
            if label not in chosen and joined[label] & again and other not in delimiter:
                shown = repr(label) if len(label) <= 80 else "a cell"
                raise DataError(
                    f"{path}: {shown} is one finding if {delimiter!r} separates findings, but "
                    f"{sorted(joined[label] & again)[0]!r} is a finding of its own. Give --source.delimiter {typed}, "
                    "or name the findings as they are meant with --source.finding-columns."
                )
