"""Any label table (CSV or Parquet) with a folder of PNG, JPEG or DICOM files; options name the columns.

    trcgl prepare table --root HOSPITAL --out hospital --source.image-column file --source.labels-column labels

Findings are listed in one delimited column (`labels_column`), or have a column each (`finding_columns`) with 1 present,
0 absent, -1 uncertain and blank not stated.
"""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import check_path
from trcgl.dataset.sources import SourceTable, reading

FILES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", ".bmp", "")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
VIEW_NAMES = {
    **dict.fromkeys(("pa", "ap", "frontal", "postero-anterior", "antero-posterior", "ap_horizontal"), "frontal"),
    **dict.fromkeys(("l", "ll", "rl", "lat", "lateral"), "lateral"),
}
CELLS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "present"), "present"),
    **dict.fromkeys(("0", "0.0", "false", "no", "absent"), "absent"),
    **dict.fromkeys(("-1", "-1.0", "uncertain"), "uncertain"),
    **dict.fromkeys(("nan", "none", "null", "na", "n/a"), "blank"),
}
MEANING = {"present": 1, "absent": 0, "unknown": None}


@dataclass(frozen=True)
class Options:
    """Names of the columns, and the meaning of blank and uncertain cells."""

    table: str = ""
    """Path of the label table below --root; default: the only .csv, .tsv or .parquet file there."""
    image_column: str = "image"
    """Column with the path below --root, the file name, or the file name without its ending."""
    patient_column: str = "patient"
    """Column with the patient; patients are never divided between splits. `none`: every image is its own patient."""
    labels_column: str = ""
    """Column that lists the findings of a row."""
    delimiter: str = "|"
    """Separator between the findings in `labels_column`."""
    finding_columns: tuple[str, ...] = ()
    """Columns of single findings; with `labels_column`, the findings to keep from that column (default: all)."""
    normal: str = ""
    """Label that means "nothing found", if any; where it is present, blank cells of the row count as absent."""
    blank: Literal["unknown", "absent"] = "unknown"
    """Meaning of a blank cell. Unknown labels are masked in training and in every metric."""
    uncertain: Literal["unknown", "absent", "present"] = "unknown"
    """Meaning of -1 (uncertain)."""
    study_column: str = ""
    """Column with the study, where several images belong to one examination."""
    view_column: str = ""
    """Column with the view: PA, AP, frontal, L or lateral; anything else counts as `other`."""
    split_column: str = ""
    """Column with train, val or test; blank rows are divided by --fractions."""
    label_source_column: str = ""
    """Column with the origin of the labels, for instance `physician`; the report evaluates each origin separately."""
    age_column: str = ""
    """Column with the age in years, or as in DICOM, for instance 058Y."""
    sex_column: str = ""
    """Column with the sex; only the first letter, F or M, is read."""
    group_rule: Literal["prevalence", "counts"] = "prevalence"
    """Limits of the groups head, medium and tail: 10 % and 1 % of the training images (`prevalence`), or 1,000 and 100
    training images (`counts`)."""


def read(root: Path, options: Options | None = None) -> SourceTable:
    """Read the table and find its files."""
    root, options = Path(root), options or Options()
    path = _table(root, options)
    table = reading.read_table(path)
    _check_columns(table, options, path)
    table = table.with_columns(image_id=pl.col(options.image_column).str.strip_chars())
    total = table.height
    own = options.patient_column.lower() == "none"
    without = [(pl.col("image_id").is_null() | (pl.col("image_id") == ""), "no image named")]
    without += [] if own else [(pl.col(options.patient_column).is_null(), "no patient named")]
    table, dropped = reading.split_off(table, *without)
    for image in table["image_id"]:
        check_path(image, str(path))
    names, labels = _delimited(table, options) if options.labels_column else _columns(table, options, path)
    space = LabelSpace(
        name=root.resolve().name or "table",
        findings=names,
        group_rule=options.group_rule,
        normal=options.normal or None,
        raw={name: (name,) for name in names},
    )
    blank = pl.lit(None, pl.String)
    rows = pl.concat([table.select(pl.exclude(*space.findings)), labels], how="horizontal").with_columns(
        patient_id=pl.col("image_id") if own else pl.col(options.patient_column).str.strip_chars(),
        study_id=pl.col(options.study_column) if options.study_column else blank,
        label_source=pl.col(options.label_source_column) if options.label_source_column else blank,
        view=_named(options.view_column, VIEW_NAMES, "other") if options.view_column else blank,
        split=_split(table, options, path) if options.split_column else blank,
        age=reading.age_in_years(options.age_column) if options.age_column else blank,
        sex=reading.sex(options.sex_column) if options.sex_column else blank,
        path=_files(root, table["image_id"]),
    )
    rows = reading.in_order(rows, space)
    _refuse_contradiction(rows, path)
    rows, dropped = reading.first_of_each(rows, dropped=dropped)
    return SourceTable(
        space=space,
        rows=rows,
        dropped=dropped,
        counts={"rows in the table": total},
        root=root,
        license="As stated by the owner of the table and the files.",
        notes=(f"A blank cell means {options.blank}, an uncertain cell {options.uncertain}.",),
    )


def _table(root: Path, options: Options) -> Path:
    if options.table:
        return reading.find_file(root, (options.table,), "label table")
    reading.find_file(root, ("*.csv", "*.csv.gz", "*.tsv", "*.parquet"), "label table")
    found = [path for pattern in ("*.csv", "*.csv.gz", "*.tsv", "*.parquet") for path in sorted(root.glob(pattern))]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{root}: several tables: {names}. Name one with --source.table.")
    return found[0]


def _check_columns(table: pl.DataFrame, options: Options, path: Path) -> None:
    if not options.labels_column and not options.finding_columns:
        raise DataError(
            f"{path}: which columns hold the findings? Name one delimited column with --source.labels-column, or one "
            f"column per finding with --source.finding-columns; the table has {', '.join(map(repr, table.columns))}."
        )
    columns = [options.image_column, options.labels_column, options.study_column, options.view_column]
    columns += [options.split_column, options.label_source_column, options.age_column, options.sex_column]
    columns += [] if options.labels_column else _chosen(options)
    reading.require_columns(table, [column for column in columns if column], path)
    if options.patient_column.lower() != "none" and options.patient_column not in table.columns:
        raise DataError(
            f"{path}: patient column {options.patient_column!r} is missing; the table has "
            f"{', '.join(map(repr, table.columns))}. Name it with --source.patient-column, or say "
            "--source.patient-column none if every image is of another patient."
        )


def _chosen(options: Options) -> tuple[str, ...]:
    """The findings named by options, including the normal finding."""
    names = options.finding_columns
    return (*names, options.normal) if names and options.normal and options.normal not in names else names


def _delimited(table: pl.DataFrame, options: Options) -> tuple[tuple[str, ...], pl.DataFrame]:
    """Names of the findings, and set_aside with an Int8 column per finding, from a delimited column."""
    cell = pl.col(options.labels_column).str.split(options.delimiter).list.eval(pl.element().str.strip_chars())
    lists = table.select(cell=cell.list.eval(pl.element().filter(pl.element() != "")))
    occurring = lists["cell"].explode().drop_nulls().value_counts().sort(["count", "cell"], descending=[True, False])
    names = _chosen(options) or tuple(occurring["cell"])
    if not names:
        raise DataError(f"column {options.labels_column!r} of the table names no finding.")
    empty = pl.col("cell").is_null() | (pl.col("cell").list.len() == 0)
    nothing = pl.lit(MEANING[options.blank], pl.Int8)
    listed = {name: pl.col("cell").list.contains(name).cast(pl.Int8) for name in names}
    labels = lists.select(
        *(pl.when(empty).then(nothing).otherwise(there).alias(name) for name, there in listed.items()), empty=empty
    )
    outside = pl.all_horizontal(pl.col(name).eq(0).fill_null(False) for name in names) & ~pl.col("empty")
    return names, labels.with_columns(
        set_aside=pl.when(outside)
        .then(pl.lit("none of the label space's findings"))
        .when(pl.all_horizontal(pl.col(name).is_null() for name in names))
        .then(pl.lit("every finding is unknown"))
    ).drop("empty")


def _columns(table: pl.DataFrame, options: Options, path: Path) -> tuple[tuple[str, ...], pl.DataFrame]:
    """Names of the findings, and set_aside with an Int8 column per finding, from a column per finding."""
    names = _chosen(options)
    meaning = {**MEANING, "blank": MEANING[options.blank], "uncertain": MEANING[options.uncertain]}
    trimmed = pl.col(*names).str.strip_chars().str.to_lowercase().replace("", None)
    cells = table.select(trimmed.fill_null("nan"))
    for name in names:
        strange = ~cells[name].is_in(list(CELLS))
        if strange.any():
            place = strange.arg_true()[0]
            raise DataError(
                f"{path}: image {table['image_id'][place]!r} has {name} = {table[name][place]!r}; "
                "write 1 (present), 0 (absent), -1 (uncertain) or leave it blank."
            )
    number = {cell: meaning[what] for cell, what in CELLS.items()}
    read = {name: pl.col(name).replace_strict(number, return_dtype=pl.Int8) for name in names}
    if options.normal:
        healthy = read[options.normal].eq(1).fill_null(False)
        blank = [cell for cell, what in CELLS.items() if what == "blank"]
        read = {
            name: pl.when(healthy & pl.col(name).is_in(blank)).then(pl.lit(0, pl.Int8)).otherwise(label)
            for name, label in read.items()
        }
    labels = cells.select(label.alias(name) for name, label in read.items())
    unknown = pl.all_horizontal(pl.col(name).is_null() for name in names)
    return names, labels.with_columns(set_aside=pl.when(unknown).then(pl.lit("every finding is unknown")))


def _named(column: str, names: dict[str, str], other: str | None) -> pl.Expr:
    cell = pl.col(column).str.strip_chars().str.to_lowercase()
    known = cell.replace_strict(names, default=other, return_dtype=pl.String)
    return pl.when(cell.is_not_null()).then(known)


def _split(table: pl.DataFrame, options: Options, path: Path) -> pl.Series:
    split = table.select(split=_named(options.split_column, SPLIT_NAMES, "?"))["split"]
    if (split == "?").any():
        place = (split == "?").arg_true()[0]
        raise DataError(
            f"{path}: image {table['image_id'][place]!r} has {options.split_column} = "
            f"{table[options.split_column][place]!r}; write train, val or test, or leave it blank."
        )
    return split


def _files(root: Path, images: pl.Series) -> pl.Series:
    """Path of every image below the root: the cell itself, or the only file below the root with that name or stem."""
    direct = [image if (root / image).is_file() else None for image in images]
    if None in direct:
        named: dict[str, list[str]] = defaultdict(list)
        for folder, _, files in os.walk(root):
            for file in files:
                stem, ending = os.path.splitext(file)
                below = os.path.relpath(os.path.join(folder, file), root).replace(os.sep, "/")
                # What follows the last dot of a UID is no ending: such a file is found by its whole name only.
                for name in {file, stem} if ending.lower() in FILES else {file}:
                    named[name].append(below)
        for place, image in enumerate(images):
            if direct[place] is None:
                found = named.get(image, [])
                direct[place] = found[0] if len(found) == 1 else image
    return pl.Series("path", direct, pl.String)


def _refuse_contradiction(rows: pl.DataFrame, path: Path) -> None:
    twice = rows.filter(pl.col("image_id").is_duplicated()).unique()
    if (differ := twice.filter(pl.col("image_id").is_duplicated())).height:
        image = differ["image_id"].sort()[0]
        raise DataError(f"{path}: image {image!r} has rows that contradict each other. Keep one of them.")
