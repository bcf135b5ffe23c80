"""CXR-LT 2026: the challenge's labels of 30 findings over the radiographs of PadChest (arXiv 2602.22092).

    trcgl prepare cxr-lt-2026 --root PADCHEST --source.tables CXRLT --out cxr-lt-2026 --size 512

The challenge rounds patient identifiers to numbers such as 3.24E+38. Patients, studies and views therefore come from
PadChest's own label table, without which patients cannot be divided into splits. A row without any finding is a
negative of every finding, as in the challenge. Images of `Removal.csv` and of the test lists are left out.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.sources import SourceTable, padchest, reading
from trcgl.dataset.sources.padchest_findings import SPACE
from trcgl.dataset.table_file import column_names, read_table

TRAINING = "CXRLT_2026_training.csv"
REMOVAL = "Removal.csv"
CLASSES = "Train_CLASS.txt"
TEST_LISTS = {"task 1": "CXRLT_2026_TEST_ALL_TASK1.csv", "task 2": "CXRLT_2026_TEST_ALL_TASK2.csv"}
IMAGE_COLUMNS = ("ImageID", "dicom_id", "image_id", "id")
"""Names under which a list of the challenge may have its column of images."""
COLUMNS = ("ImageID", "StudyDate_DICOM", "PatientID")
FROM_PADCHEST = tuple(column for column in padchest.COLUMNS if column not in ("Labels", "StudyDate_DICOM"))
CELLS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0}


@dataclass(frozen=True)
class Options:
    """The folder of the challenge's tables."""

    tables: str = ""
    """Folder of the challenge's tables (`CXRLT_2026_training.csv` and others); default: --root."""


def read(root: Path, options: Options | None = None) -> SourceTable:
    """Read the challenge's labels and PadChest's table; images are `<ImageDir>/<ImageID>` below the root."""
    root, options = Path(root), options or Options()
    folder = Path(options.tables) if options.tables else root
    path = reading.find_file(folder, (TRAINING,), "training table of CXR-LT 2026")
    opened = read_table(path, needed=COLUMNS)
    findings = _findings(folder, opened.frame.columns, path)
    opened.require(findings)
    space = _space(findings)
    marks = opened.frame.select(image_id="ImageID", **{name: pl.col(name) for name in findings})
    labels = reading.marked(marks, findings, CELLS, path)
    table = opened.frame.select(image_id="ImageID").hstack(labels)
    removed = _images(folder / REMOVAL) if (folder / REMOVAL).is_file() else set()
    lists = {task: _images(folder / name) for task, name in TEST_LISTS.items() if (folder / name).is_file()}
    archive, notices = _padchest(root)
    table = table.join(archive, on="image_id", how="left", maintain_order="left")
    rows, dropped = reading.first_of_each(
        table,
        (pl.col("image_id").is_null(), "no ImageID"),
        (pl.col("image_id").is_in(list(removed)), f"on the challenge's {REMOVAL}"),
        *((pl.col("image_id").is_in(list(images)), f"on the test list of {task}") for task, images in lists.items()),
        (pl.col("PatientID").is_null(), "not in PadChest's label table, so that its patient is unknown"),
    )
    files, missing = reading.files_anywhere(root, padchest.PATH, rows)
    rows = rows.with_columns(**padchest.about_image(), path=files)
    return SourceTable(
        space=space,
        rows=reading.in_order(rows, space),
        dropped=dropped,
        counts={
            f"rows in {TRAINING}": table.height,
            f"images in {REMOVAL}": len(removed),
            "rows without any finding, which are negatives": rows.filter(
                pl.all_horizontal(pl.col(name) == 0 for name in findings)
            ).height,
            **{f"images on the test list of {task}": len(images) for task, images in lists.items()},
        },
        root=root,
        license=f"{padchest.LICENSE} Labels of CXR-LT 2026: as agreed with the challenge, no redistribution.",
        notices=(
            *opened.notices,
            *notices,
            *_removal_notice(folder),
            *_test_patients(lists, archive, rows),
            *reading.normal_with_findings(rows, space),
        ),
        missing=missing,
        notes=(
            "Labels of CXR-LT 2026, task 1; the challenge ranks by macro mAP. Its test labels are not public, so val "
            "and test are patients of its training table.",
            "A row without any of the findings counts as a negative of each, as in the challenge.",
            "Labels belong to the study: a lateral image has labels of findings that only the frontal image shows.",
        ),
        headline="AP",
    )


def listed_images(path: Path) -> tuple[str, list[str]]:
    """Name of the image column of a list of the challenge, and the images in its order.

    Raises:
        DataError: the file cannot be read, has no column of images, or names no image or one image twice.
    """
    table = read_table(path, known=IMAGE_COLUMNS).frame
    column = next((name for name in IMAGE_COLUMNS if name in table.columns), None)
    if column is None and len(table.columns) > 1:
        raise DataError(
            f"{path}: no column is called {', '.join(IMAGE_COLUMNS[:-1])} or {IMAGE_COLUMNS[-1]}; the list has "
            f"{column_names(table.columns)}. Rename the column that names the images."
        )
    column = column or table.columns[0]
    images = table[column].str.strip_chars().drop_nulls()
    if not len(images):
        raise DataError(f"{path}: column {column!r} names no image.")
    if (twice := images.filter(images.is_duplicated())).len():
        raise DataError(f"{path}: image {twice[0]!r} is named twice. Remove one of the rows.")
    return column, images.to_list()


def _images(path: Path) -> set[str]:
    return set(listed_images(path)[1])


def _findings(folder: Path, columns: list[str], table: Path) -> tuple[str, ...]:
    """The classes in the order of `Train_CLASS.txt`; without that file, in the order of the training table."""
    path = folder / CLASSES
    if path.is_file():
        names = class_names(path)
        if missing := [name for name in names if name not in columns]:
            raise DataError(f"{table}: class {missing[0]!r} of {path} has no column; it has {column_names(columns)}.")
        return names
    findings = tuple(name for name in columns if name in SPACE.findings)
    if len(findings) != len(SPACE.findings):
        raise DataError(
            f"{path} is missing. Put the challenge's file there: it names the {len(SPACE.findings)} classes."
        )
    return findings


def class_names(path: Path) -> tuple[str, ...]:
    """The class names of `Train_CLASS.txt`, one a line.

    Raises:
        DataError: the file cannot be read, or names no class or one class twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of classes ({error}).") from error
    names = tuple(line.strip().strip(",") for line in lines if line.strip())
    if not names or len(set(names)) < len(names):
        raise DataError(f"{path}: give each class once, on a line of its own; found {', '.join(names) or 'no class'}.")
    return names


def _space(findings: tuple[str, ...]) -> LabelSpace:
    """The thirty findings of PadChest-30 with their groups by name; other classes are grouped by prevalence."""
    known = set(findings) == set(SPACE.findings)
    if known:
        return replace(SPACE, name="cxr-lt-2026", findings=findings, raw={name: (name,) for name in findings})
    normal = SPACE.normal if SPACE.normal in findings else None
    return LabelSpace(name="cxr-lt-2026", findings=findings, normal=normal, raw={name: (name,) for name in findings})


def _padchest(root: Path) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Patient, study, view and folder of every image of PadChest, from its own label table."""
    try:
        path = reading.find_file(root, padchest.TABLES, "PadChest label table")
    except DataError as error:
        raise DataError(
            f"{error} CXR-LT 2026 rounds patient identifiers (3.24E+38), so only PadChest's own table tells which "
            "images are of one patient."
        ) from error
    opened = read_table(path, needed=(*FROM_PADCHEST, "StudyDate_DICOM"))
    table = opened.frame.select(*FROM_PADCHEST, "StudyDate_DICOM").rename({"ImageID": "image_id"})
    return table.unique("image_id", keep="first", maintain_order=True), opened.notices


def _removal_notice(folder: Path) -> tuple[str, ...]:
    if (folder / REMOVAL).is_file():
        return ()
    return (f"{folder / REMOVAL} is missing, so that images which the challenge removed take part. Put it there.",)


def _test_patients(lists: dict[str, set[str]], archive: pl.DataFrame, rows: pl.DataFrame) -> tuple[str, ...]:
    """Sentences on the views of a test list, and on its patients who also have images to train on."""
    sentences = []
    for task, images in lists.items():
        listed = archive.filter(pl.col("image_id").is_in(list(images)))
        views = listed.select(reading.view("Projection", padchest.VIEWS)).to_series()
        counts = ", ".join(f"{(views == view).sum():,} {view}" for view in ("frontal", "lateral"))
        shared = listed.filter(pl.col("PatientID").is_in(rows["PatientID"].implode())).height
        sentences.append(
            f"test list of {task}: {counts} images of PadChest, {len(images) - listed.height:,} of other archives; "
            f"{shared:,} are of patients who have images to train on."
        )
    return tuple(sentences)
