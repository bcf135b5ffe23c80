"""Functions for every source: find a label table, and convert its columns to those of the manifest."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.image_files import ImageFiles
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SCHEMA
from trcgl.dataset.table_file import refuse_cell

OLDEST = 120.0  # highest age in years; a higher age is a typing error (NIH has 411) and becomes unknown

DROPPED_SCHEMA = {"image_id": pl.String(), "reason": pl.String()}


def find_file(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of `names` (glob patterns, in any case of letters) that exists in `root`; hidden files are left out."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Give the archive's folder with --root.")
    found = next((path for name in names for path in matching(root, name)), None)
    if found is None:
        deeper = next((path for name in names for path in matching(root, f"*/{name}")), None)
        if deeper is not None:
            inside = deeper.relative_to(root).parts[0]
            hint = f"There is {deeper.relative_to(root)}: give --root {root / inside}"
        else:
            hint = f"Put one of these there: {', '.join(names)}"
        raise DataError(f"{root}: the {what} is missing. {hint}.")
    return found


def matching(root: Path, pattern: str) -> list[Path]:
    """Files and folders below `root` that match a glob pattern, in any case of letters; exact matches come first."""
    first, _, rest = pattern.partition("/")
    fits = re.compile(fnmatch.translate(first), re.IGNORECASE)
    here = [path for path in root.iterdir() if fits.match(path.name) and not path.name.startswith(".")]
    here = sorted(here, key=lambda path: (not fnmatch.fnmatchcase(path.name, first), path.name))
    return [path for folder in here if folder.is_dir() for path in matching(folder, rest)] if rest else here


def files_anywhere(
    root: Path, path: pl.Expr, rows: pl.DataFrame, *, other_endings: bool = True
) -> tuple[pl.Series, dict[str, str]]:
    """Path of every image below the root, and the reasons why some were not found.

    `path`: where the archive has the files. Only where it has none of them there, as in copies with other folders or
    endings, are they looked for by their names everywhere below the root. `other_endings`: whether a file with the same
    stem will do.
    """
    expected = rows.select(path=path)["path"]
    files, paths, missing = ImageFiles(root), [], {}
    if any((root / name).is_file() for name in expected.drop_nulls()) or not files.has_images:
        return expected, {}
    for name in expected:
        last = PurePosixPath(name or "")
        found, why = files.find(last.name)
        if why and other_endings:
            found, why = files.find(last.stem)
        paths.append(name if why else found)
        if why and name:
            missing[name] = why
    return pl.Series("path", paths, pl.String), missing


AGE = (
    r"^\s*0*(?P<number>\d+(?:[.,]\d+)?)\s*-?"
    r"(?P<unit>(?:y|yr|yrs|year|years|yo|y/o|a|m|mo|mon|month|months|w|wk|wks|week|weeks|d|day|days)\.?)?(?: old)?\s*$"
)
SEXES = {
    **dict.fromkeys(("f", "female", "fem", "w", "weiblich", "woman", "girl", "femme", "féminin", "femenino"), "F"),
    **dict.fromkeys(("feminino", "mujer", "frau"), "F"),
    **dict.fromkeys(("m", "male", "männlich", "maennlich", "man", "boy", "homme", "masculin", "masculino"), "M"),
    **dict.fromkeys(("hombre", "mann", "herr"), "M"),
}


def age_in_years(column: str) -> pl.Expr:
    """An age as text (`58`, `58,5`, `058Y`, `58 years`, `18M`, `12W`, `30D`) in years; null where impossible."""
    parts = pl.col(column).str.to_lowercase().str.extract_groups(AGE)
    number = parts.struct.field("number").str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    unit = parts.struct.field("unit").str.head(1)
    years = number / unit.replace_strict({"m": 12.0, "w": 52.18, "d": 365.25}, default=1.0, return_dtype=pl.Float64)
    return pl.when(years <= OLDEST).then(years)


def sex(column: str) -> pl.Expr:
    """`F` or `M` from a letter or a word; null for anything else."""
    word = pl.col(column).str.strip_chars().str.to_lowercase()
    return word.replace_strict(SEXES, default=None, return_dtype=pl.String)


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
    reason = rows.select(reason=pl.coalesce(pl.when(holds).then(pl.lit(text)) for holds, text in reasons))["reason"]
    stay = reason.is_null()
    gone = rows.select(pl.col("image_id").fill_null("(no name)")).with_columns(reason).filter(~stay)
    return rows.filter(stay), gone if dropped is None else pl.concat([dropped, gone])


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
            remedy = f"which is none of {known}. Correct that row."
            refuse_cell(path, table["image_id"][place], finding, cells[finding][place], remedy)
    return cells.select(pl.col(name).replace_strict(dict(meaning), return_dtype=pl.Int8) for name in findings)


def none_of(space: LabelSpace) -> pl.Expr:
    """`set_aside` of a row in which no finding of the label space is present."""
    says = pl.any_horizontal(*(pl.col(finding).eq(1).fill_null(False) for finding in space.findings))
    return pl.when(~says).then(pl.lit("none of the label space's findings")).alias("set_aside")


def normal_with_findings(rows: pl.DataFrame, space: LabelSpace) -> tuple[str, ...]:
    """A sentence if the normal label stands beside a finding in a row."""
    if space.normal is None or len(space.findings) == 1:
        return ()
    others = pl.any_horizontal(pl.col(name).eq(1) for name in space.findings if name != space.normal)
    both = rows.filter(pl.col(space.normal).eq(1) & others).height
    return (f"{both:,} images have {space.normal} beside a finding; both count as present.",) if both else ()


def in_order(rows: pl.DataFrame, space: LabelSpace) -> pl.DataFrame:
    """The columns of `SourceTable.rows` in order, with their types; a missing column becomes null.

    `rows` holds nothing but columns that the source made or that its documentation names: a column of the user's table
    that is called `weight` or `split` by chance must not come this far.
    """
    if taken := [finding for finding in space.findings if finding in SCHEMA]:
        raise DataError(f"a finding is called {taken[0]!r}, as a column of every manifest is. Give it another name.")
    kinds = {name: kind for name, kind in SCHEMA.items() if name not in ("sha256", "row")}
    kinds |= {finding: pl.Int8() for finding in space.findings}
    columns = [
        (pl.col(name) if name in rows.columns else pl.lit(1.0 if name == "weight" else None)).cast(kind).alias(name)
        for name, kind in kinds.items()
    ]
    return rows.select(columns)
