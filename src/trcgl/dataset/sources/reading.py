"""Functions for every source: find a label table, read it as text, and convert its columns to those of the manifest."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SCHEMA

OLDEST = 120.0  # highest age in years; a higher age is a typing error (NIH has 411) and becomes unknown

DROPPED_SCHEMA = {"image_id": pl.String(), "reason": pl.String()}


def find_file(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of `names` (glob patterns) that exists in `root`."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Give the archive's folder with --root.")
    for name in names:
        for path in sorted(root.glob(name)):
            return path
    raise DataError(f"{root}: the {what} is missing. Put one of these there: {', '.join(names)}.")


def read_table(path: Path, *, needed: Sequence[str] = (), has_header: bool = True) -> pl.DataFrame:
    """A CSV (plain or .gz; comma, semicolon or tab) or Parquet table, every column as text, blank cells null."""
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
            table = table.select(pl.col(name).cast(pl.String, strict=False) for name in table.columns)
        else:
            table = pl.read_csv(path, infer_schema=False, has_header=has_header, separator=_separator(path))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeDecodeError) as error:
        why = str(error).strip().split("\n")[0]
        raise DataError(f"{path}: cannot be read as a table ({why}). Save it as UTF-8 CSV or Parquet.") from error
    require_columns(table, needed, path)
    return table.with_columns(pl.col(pl.String).replace("", None))


def require_columns(table: pl.DataFrame, needed: Sequence[str], path: Path) -> None:
    """Raise a DataError for the first column that is missing; the message lists the columns of the table."""
    for name in needed:
        if name not in table.columns:
            raise DataError(f"{path}: column {name!r} is missing; the table has {', '.join(map(repr, table.columns))}.")


def age_in_years(column: str) -> pl.Expr:
    """An age as text (`58`, `58.0`, `058Y`, `18M`, `12W`, `30D`) in years; null where impossible."""
    number = pl.col(column).str.extract(r"^\s*(\d+(?:\.\d+)?)\s*[YMWDymwd]?\s*$").cast(pl.Float64, strict=False)
    unit = pl.col(column).str.extract(r"([YMWDymwd])\s*$").str.to_uppercase()
    years = number / unit.replace_strict({"M": 12.0, "W": 52.18, "D": 365.25}, default=1.0, return_dtype=pl.Float64)
    return pl.when(years <= OLDEST).then(years)


def sex(column: str) -> pl.Expr:
    """`F` or `M` from the first letter; null for anything else."""
    letter = pl.col(column).str.strip_chars().str.to_uppercase().str.head(1)
    return pl.when(letter.is_in(["F", "M"])).then(letter)


def view(column: str, names: Mapping[str, str]) -> pl.Expr:
    """View names of the archive as `frontal`, `lateral` or `other`; null where not stated."""
    return pl.col(column).replace_strict(names, default=None, return_dtype=pl.String)


def split_off(
    rows: pl.DataFrame, *reasons: tuple[pl.Expr, str], dropped: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Drop the rows for which a condition holds; the first that holds is the reason.

    Returns:
        The rows to keep, and image_id and reason of all dropped rows, those that were `dropped` before included.
    """
    reason = pl.coalesce(pl.when(condition).then(pl.lit(text)) for condition, text in reasons)
    rows = rows.with_columns(reason.alias("reason"))
    gone = rows.filter(pl.col("reason").is_not_null()).select(pl.col("image_id").fill_null("(no name)"), "reason")
    stay = rows.filter(pl.col("reason").is_null()).drop("reason")
    return stay, gone if dropped is None else pl.concat([dropped, gone])


def first_of_each(
    rows: pl.DataFrame, *reasons: tuple[pl.Expr, str], dropped: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`split_off` with these reasons; of the rest, the first row of each image_id is kept."""
    if reasons:
        rows, dropped = split_off(rows, *reasons, dropped=dropped)
    repeated = ~pl.col("image_id").is_first_distinct()
    return split_off(rows, (repeated, "image_id occurs more than once; the first row is kept"), dropped=dropped)


def marked(table: pl.DataFrame, findings: Sequence[str], meaning: Mapping[str, int | None], path: Path) -> pl.DataFrame:
    """The finding columns of a table as Int8; `meaning` maps a cell (`""`: blank) to 1, 0 or None (unknown)."""
    cells = table.select(pl.col(*findings).str.strip_chars().fill_null(""))
    for finding in findings:
        strange = ~cells[finding].is_in(list(meaning))
        if strange.any():
            place = strange.arg_max() or 0
            known = ", ".join(name or "blank" for name in meaning)
            raise DataError(
                f"{path}: image {table['image_id'][place]!r} has {finding} = {cells[finding][place]!r}, which is none "
                f"of {known}. Correct that row."
            )
    return cells.select(pl.col(name).replace_strict(dict(meaning), return_dtype=pl.Int8) for name in findings)


def none_of(space: LabelSpace) -> pl.Expr:
    """`set_aside` of a row in which no finding of the label space is present."""
    says = pl.any_horizontal(*(pl.col(finding).eq(1).fill_null(False) for finding in space.findings))
    return pl.when(~says).then(pl.lit("none of the label space's findings")).alias("set_aside")


def in_order(rows: pl.DataFrame, space: LabelSpace) -> pl.DataFrame:
    """The columns of `SourceTable.rows` in order, with their types; a missing column becomes null."""
    kinds = {name: kind for name, kind in SCHEMA.items() if name not in ("sha256", "row")}
    kinds |= {finding: pl.Int8() for finding in space.findings}
    columns = [
        (pl.col(name) if name in rows.columns else pl.lit(1.0 if name == "weight" else None)).cast(kind).alias(name)
        for name, kind in kinds.items()
    ]
    return rows.select(columns)


def _separator(path: Path) -> str:
    kind = gzip.open if path.suffix == ".gz" else open
    with kind(path, "rt", encoding="utf-8-sig") as handle:
        first = handle.readline()
    return max(",;\t", key=first.count)
