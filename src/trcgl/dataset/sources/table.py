"""Any label table (CSV or Parquet) with a folder of PNG, JPEG or DICOM files; options name the columns.

    trcgl prepare table --root HOSPITAL --out hospital --source.image-column file --source.labels-column labels

Findings are listed in one delimited column (`labels_column`), or have a column each (`finding_columns`) with 1 present,
0 absent, -1 uncertain and blank not stated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.dicom_keys import ELEMENTS, files_by_key
from trcgl.dataset.image_files import ImageFiles
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import check_path
from trcgl.dataset.patient_ids import NO_PATIENT
from trcgl.dataset.sources import SourceTable, reading, table_labels
from trcgl.dataset.table_file import LabelTable, column_names, read_table, refuse_cell

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
VIEW_NAMES = {
    **dict.fromkeys(("pa", "ap", "frontal", "postero-anterior", "antero-posterior", "ap_horizontal"), "frontal"),
    **dict.fromkeys(("l", "ll", "rl", "lat", "lateral"), "lateral"),
}
TABLES = ("*.csv", "*.csv.gz", "*.tsv", "*.parquet")


@dataclass(frozen=True)
class Options:
    """Names of the columns, and the meaning of blank and uncertain cells."""

    table: str = ""
    """Path of the label table below --root; default: the only .csv, .tsv or .parquet file there."""
    image_column: str = "image"
    """Column with the path below --root, the file name, or the file name without file extension; see `image_key`."""
    image_key: Literal["file", "accession", "study", "sop"] = "file"
    """Meaning of `image_column`: a file, or the AccessionNumber, StudyInstanceUID or SOPInstanceUID of DICOM files.
    The labels of an accession number or a study apply to each of its images."""
    patient_column: str = "patient"
    """Column with the patient identifier; a patient is in one split only. `none`: every image is its own patient."""
    labels_column: str = ""
    """Column that lists the findings of a row."""
    delimiter: str = "|"
    """Separator between the findings in `labels_column`."""
    long: bool = False
    """The table has a row per finding: the findings of all rows of an image are put together."""
    finding_columns: tuple[str, ...] = ()
    """Columns of single findings; with `labels_column`, the findings to keep from that column (default: all)."""
    normal: str = ""
    """Label that means "nothing found", if any; where it is present, blank cells of the row count as absent."""
    blank: Literal["unknown", "absent"] = "unknown"
    """Meaning of a blank cell. Unknown labels are masked in training and in every metric."""
    uncertain: Literal["unknown", "absent", "present"] = "unknown"
    """Meaning of -1 (uncertain)."""
    study_column: str = ""
    """Column with the study identifier; a study is an examination with one or several images."""
    view_column: str = ""
    """Column with the view: PA, AP, frontal, L or lateral; anything else counts as `other`."""
    split_column: str = ""
    """Column with train, val or test; blank rows are divided by --fractions."""
    label_source_column: str = ""
    """Column with the origin of the labels, for instance `physician`; the report evaluates each origin separately."""
    age_column: str = ""
    """Column with the age in years, or as in DICOM, for instance 058Y."""
    sex_column: str = ""
    """Column with the sex: F, M, or a word for it."""
    modality: Literal["radiography", "any"] = "radiography"
    """Modality of DICOM files: radiographs of the chest, or `any` grayscale images of any body part. Models of the
    dataset then score such files, too."""
    group_rule: Literal["prevalence", "counts"] = "prevalence"
    """Limits of the groups head, medium and tail: 10 % and 1 % of the training images (`prevalence`), or 1,000 and 100
    training images (`counts`)."""


def read(root: Path, options: Options | None = None) -> SourceTable:
    """Read the table and find its files."""
    root, options = Path(root), options or Options()
    path = _table(root, options)
    columns = (options.image_column, options.patient_column, options.labels_column, *options.finding_columns)
    table = read_table(path, known=columns, list_separator=options.delimiter)
    _check_columns(table, options)
    rows, dropped = _named_rows(table, options)
    counts = {"rows in the table": table.frame.height, **_not_understood(table.frame[rows["line"]], rows, options)}
    notices = [*table.notices]
    if options.labels_column:
        cells = table.frame[rows["line"]][options.labels_column]
        lists, said = table_labels.listed(cells, rows["image_id"], options.delimiter, _chosen(options), path)
        rows = rows.with_columns(findings=lists)
        notices += said
    rows = _merged(rows, path) if options.long else rows
    if options.image_key != "file":
        rows, dropped = _by_header(rows, dropped, root, options)
    if options.labels_column:
        names, labels, set_aside = table_labels.from_lists(rows["findings"], _chosen(options), options.blank)
        if not names:
            raise DataError(f"{path}: column {options.labels_column!r} names no finding.")
    else:
        names = _chosen(options)
        how = {"normal": options.normal, "blank": options.blank, "uncertain": options.uncertain}
        labels, set_aside = table_labels.from_columns(
            table.frame[rows["line"]], rows["image_id"], names, **how, path=path
        )
    space = LabelSpace(
        name=root.resolve().name or "table",
        findings=names,
        group_rule=options.group_rule,
        normal=options.normal or None,
        raw={name: (name,) for name in names},
    )
    files, missing = _files(rows["image_id"], root, path, options)
    about = reading.in_order(
        rows.drop("line", "findings", strict=False).with_columns(files, set_aside).hstack(labels), space
    )
    kept, dropped = _once_each(about, dropped, path, options)
    return SourceTable(
        space=space,
        rows=kept,
        dropped=dropped,
        counts=counts,
        root=root,
        license="As stated by the owner of the table and the files.",
        notes=(f"A blank cell means {options.blank}, an uncertain cell {options.uncertain}.",),
        notices=(
            *notices,
            *table_labels.twins(names),
            *_never_absent(kept, names),
            *reading.normal_with_findings(kept, space),
        ),
        accept=frozenset(("modality", "body-part") if options.modality == "any" else ()),
        missing=missing,
    )


def _table(root: Path, options: Options) -> Path:
    if options.table:
        named = root / options.table
        return named if named.is_file() else reading.find_file(root, (options.table,), "label table")
    reading.find_file(root, TABLES, "label table")
    found = [path for pattern in TABLES for path in reading.matching(root, pattern)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{root}: several tables: {names}. Name one with --source.table.")
    return found[0]


def _check_columns(table: LabelTable, options: Options) -> None:
    if not options.labels_column and not options.finding_columns:
        raise DataError(
            f"{table.path}: which columns hold the findings? Name one delimited column with --source.labels-column, or "
            f"one column per finding with --source.finding-columns; the table has {column_names(table.frame.columns)}."
        )
    if options.long and not options.labels_column:
        raise DataError("--source.long: a table with a row per finding needs --source.labels-column, its finding.")
    columns = [options.image_column, options.labels_column, options.study_column, options.view_column]
    columns += [options.split_column, options.label_source_column, options.age_column, options.sex_column]
    columns += [] if options.labels_column else _chosen(options)
    table.require(column for column in columns if column)
    if options.patient_column.lower() != "none":
        remedy = (
            "Name it with --source.patient-column, or say --source.patient-column none if every image is of another "
            "patient."
        )
        table.require([options.patient_column], remedy)


def _chosen(options: Options) -> tuple[str, ...]:
    """The findings named by options, including the normal finding."""
    names = options.finding_columns
    return (*names, options.normal) if names and options.normal and options.normal not in names else names


def _named_rows(table: LabelTable, options: Options) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The columns of the manifest that options name, of the rows with an image and a patient; and the other rows.

    No column of the table comes along under a name of its own: it could be one that the manifest gives a meaning.
    """
    own = options.patient_column.lower() == "none"
    text = {
        "image_id": options.image_column,
        "patient_id": options.image_column if own else options.patient_column,
        "study_id": options.study_column,
        "label_source": options.label_source_column,
    }
    columns = {name: pl.col(column).str.strip_chars() for name, column in text.items() if column}
    if options.view_column:
        columns["view"] = _named(options.view_column, VIEW_NAMES, "other")
    if options.split_column:
        columns["split"] = _named(options.split_column, SPLIT_NAMES, "?")
    if options.age_column:
        columns["age"] = reading.age_in_years(options.age_column)
    if options.sex_column:
        columns["sex"] = reading.sex(options.sex_column)
    rows = table.frame.select(**columns).with_row_index("line")
    patient = pl.col("patient_id")
    nobody = patient.is_null() | (patient == "") | patient.str.to_lowercase().is_in(NO_PATIENT)
    reasons = [(pl.col("image_id").is_null() | (pl.col("image_id") == ""), "no image named")]
    rows, dropped = reading.split_off(rows, *reasons, *([] if own else [(nobody, "no patient named")]))
    if options.split_column and (rows["split"] == "?").any():
        strange = rows.filter(split="?").row(0, named=True)
        value = table.frame[options.split_column][strange["line"]]
        remedy = "write train, val or test, or leave it blank."
        refuse_cell(table.path, strange["image_id"], options.split_column, value, remedy)
    return rows, dropped


def _named(column: str, names: dict[str, str], other: str | None) -> pl.Expr:
    cell = pl.col(column).str.strip_chars().str.to_lowercase()
    known = cell.replace_strict(names, default=other, return_dtype=pl.String)
    return pl.when(cell.is_not_null()).then(known)


def _merged(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """One row per image with the findings of all its rows."""
    about = rows.drop("line", "findings").unique()
    if (differ := about.filter(pl.col("image_id").is_duplicated())).height:
        image = differ["image_id"].sort()[0]
        raise DataError(f"{path}: the rows of image {image!r} differ in more than the finding. Correct them.")
    columns = {name: pl.col(name).first() for name in rows.columns if name not in ("image_id", "findings")}
    together = pl.col("findings").explode().drop_nulls().unique(maintain_order=True)
    return rows.group_by("image_id", maintain_order=True).agg(**columns, findings=together).select(rows.columns)


def _by_header(
    rows: pl.DataFrame, dropped: pl.DataFrame, root: Path, options: Options
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A row per file of each accession number, study or instance, with the path of the file as image_id."""
    files = files_by_key(root, options.image_key)  # type: ignore[arg-type]  # not "file"
    rows = rows.with_columns(
        files=pl.Series([files.get(name, []) for name in rows["image_id"]], dtype=pl.List(pl.String))
    )
    nothing = f"no DICOM image with that {ELEMENTS[options.image_key]}"
    rows, dropped = reading.split_off(rows, (pl.col("files").list.len() == 0, nothing), dropped=dropped)
    if "study_id" not in rows.columns and options.image_key != "sop":
        rows = rows.with_columns(study_id="image_id")
    if options.patient_column.lower() == "none":
        rows = rows.with_columns(
            patient_id=pl.coalesce("study_id", "image_id") if "study_id" in rows.columns else "image_id"
        )
    return rows.with_columns(image_id="files").drop("files").explode("image_id"), dropped


def _files(images: pl.Series, root: Path, table: Path, options: Options) -> tuple[pl.Series, dict[str, str]]:
    """Path below the root of every image, and the reasons why files were not found."""
    if options.image_key == "file":
        for image in images:
            check_path(image, str(table))
    files, found, missing = ImageFiles(root), {}, {}
    for image in images.unique(maintain_order=True):
        found[image], why = files.find(image)
        if why:
            missing[image] = why
    return pl.Series("path", [found[image] for image in images], pl.String), missing


def _once_each(
    rows: pl.DataFrame, dropped: pl.DataFrame, path: Path, options: Options
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first row of each file; rows of one file, however the table spells it, must not contradict each other."""
    own = options.patient_column.lower() == "none"
    twice = rows.filter(pl.col("path").is_duplicated())
    spelled = ("image_id", "patient_id") if own else ("image_id",)
    differ = twice.drop(*spelled).unique(maintain_order=True).filter(pl.col("path").is_duplicated())
    if differ.height:
        of_file = twice.filter(path=differ["path"].sort()[0])
        names = " and ".join(map(repr, of_file["image_id"].unique().sort()))
        same = "" if of_file["image_id"].n_unique() == 1 else " are one file, which"
        raise DataError(
            f"{path}: image {names}{same} has rows that contradict each other. "
            + ("If each holds one of its findings, give --source.long; else keep" if options.labels_column else "Keep")
            + " one of them."
        )
    rows, dropped = reading.first_of_each(rows, dropped=dropped)
    return reading.split_off(
        rows,
        (~pl.col("path").is_first_distinct(), "the same file as an earlier row, under another name"),
        dropped=dropped,
    )


def _never_absent(rows: pl.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """A sentence on the findings that no cell of the table denies, although some leave them open."""
    never = [name for name in names if rows[name].null_count() and not (rows[name] == 0).any()]
    if not never:
        return ()
    return (
        f"no row says that {', '.join(never)} is absent, and blank cells are unknown, so that nothing can be measured. "
        "If a blank cell means absent, give --source.blank absent.",
    )


def _not_understood(given: pl.DataFrame, rows: pl.DataFrame, options: Options) -> dict[str, int]:
    """The number of ages and sexes that are not blank and mean nothing known, unless it is 0."""
    counts = {}
    for what, column in (("age", options.age_column), ("sex", options.sex_column)):
        if column:
            cells = given[column].str.strip_chars().str.to_lowercase()
            stated = cells.is_not_null() & ~cells.is_in(["", *NO_PATIENT])
            counts[f"{what} not understood"] = int((stated & rows[what].is_null()).sum())
    return {what: number for what, number in counts.items() if number}
