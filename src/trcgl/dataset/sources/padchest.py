"""PadChest (Bustos et al., Medical Image Analysis 2020): 160,861 radiographs, labels from Spanish reports.

Dropped, each reason counted in the report: rows without labels, with only empty labels, marked `exclude`, or with only
`unchanged` or `suboptimal study` (which state no finding). Labels are compared whole, in lower case and without outer
spaces: "pseudonodule" is not "nodule".
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trcgl.dataset.sources import SourceTable, comma_separated, reading
from trcgl.dataset.sources.padchest_findings import SPACE
from trcgl.dataset.table_file import read_table

TABLES = ("PADCHEST_chest_x_ray_images_labels_160K_*.csv", "PADCHEST_chest_x_ray_images_labels_160K_*.csv.gz")
COLUMNS = comma_separated(
    "ImageID, ImageDir, StudyDate_DICOM, StudyID, PatientID, PatientBirth, PatientSex_DICOM, Projection, MethodLabel, "
    "Labels"
)
VIEWS = {
    **dict.fromkeys(("PA", "AP", "AP_horizontal"), "frontal"),
    "L": "lateral",
    **dict.fromkeys(("COSTAL", "EXCLUDE"), "other"),
}
PATH = pl.concat_str("ImageDir", "image_id", separator="/")
"""Path of an image below the root."""
LICENSE = "PadChest Dataset Research Use Agreement (BIMCV): research only, no redistribution."
SAYS_NOTHING = ("unchanged", "suboptimal study")


@dataclass(frozen=True)
class Options:
    """PadChest has no options of its own."""


def read(root: Path, options: Options | None = None) -> SourceTable:
    """Read the label table; images are `<ImageDir>/<ImageID>` below the root, or anywhere there."""
    root = Path(root)
    path = reading.find_file(root, TABLES, "PadChest label table")
    opened = read_table(path, needed=COLUMNS)
    table = opened.frame.select(COLUMNS).rename({"ImageID": "image_id"})
    table = table.with_columns(labels=_labels())
    table = table.with_columns(distinct=pl.col("labels").list.unique(maintain_order=True))
    counts = {
        "rows in the table": table.height,
        "empty label tokens": int(table["Labels"].str.count_matches(r"'\s*'").sum()),
        "rows that repeat a label": table.filter(pl.col("labels").list.len() > pl.col("distinct").list.len()).height,
    }
    labels = pl.col("distinct")
    rows, dropped = reading.first_of_each(
        table,
        (pl.col("image_id").is_null(), "no ImageID"),
        (pl.col("PatientID").is_null(), "no PatientID"),
        (labels.is_null(), "no labels"),
        (labels.list.len() == 0, "nothing but empty labels"),
        (labels.list.contains("exclude"), "marked 'exclude'"),
        (
            labels.list.set_difference(list(SAYS_NOTHING)).list.len() == 0,
            "nothing but 'unchanged' or 'suboptimal study', so every finding is unknown",
        ),
    )
    rows = rows.with_columns(
        pl.col("distinct").list.set_intersection(list(names)).list.len().gt(0).cast(pl.Int8).alias(finding)
        for finding, names in SPACE.raw.items()
    )
    files, missing = reading.files_anywhere(root, PATH, rows)
    rows = rows.with_columns(reading.none_of(SPACE), **about_image(), path=files)
    return SourceTable(
        space=SPACE,
        rows=reading.in_order(rows, SPACE),
        dropped=dropped,
        counts=counts,
        root=root,
        license=LICENSE,
        notices=opened.notices,
        missing=missing,
        notes=(
            "Labels belong to the study: a lateral image has labels of findings that only the frontal image shows.",
            "Only rows with label_source 'physician' were labeled by hand; the others by a network.",
        ),
    )


def about_image() -> dict[str, pl.Expr]:
    """Patient, study, view, label source, age and sex of a row of the label table, by column of the manifest."""
    return {
        "patient_id": pl.col("PatientID"),
        "study_id": pl.col("StudyID"),
        "view": reading.view("Projection", VIEWS),
        "label_source": pl.col("MethodLabel").replace_strict(
            {"Physician": "physician", "RNN_model": "network"}, default=None, return_dtype=pl.String
        ),
        "age": _age(),
        "sex": reading.sex("PatientSex_DICOM"),
    }


def _labels() -> pl.Expr:
    """The list of labels of a row without empty tokens; null where the cell holds no list."""
    tokens = pl.col("Labels").str.extract_all(r"""'[^']*'|"[^"]*\"""")
    cleaned = tokens.list.eval(pl.element().str.strip_chars("' ").str.to_lowercase())
    named = cleaned.list.eval(pl.element().filter(pl.element() != ""))
    return pl.when(pl.col("Labels").str.starts_with("[")).then(named)


def _age() -> pl.Expr:
    born = pl.col("PatientBirth").cast(pl.Float64, strict=False)
    years = pl.col("StudyDate_DICOM").str.head(4).cast(pl.Float64, strict=False) - born
    return pl.when(years.is_between(0, reading.OLDEST)).then(years)
