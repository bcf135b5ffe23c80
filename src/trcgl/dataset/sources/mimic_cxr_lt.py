"""MIMIC-CXR-LT: MIMIC-CXR with the labels of CXR-LT 2023 (26 findings) or 2024 (40 findings, or 26 labeled by hand).

Holste et al., Medical Image Analysis 2024; Lin et al., Medical Image Analysis 2025. The tables and the radiographs
(MIMIC-CXR-JPG, or MIMIC-CXR's DICOM files) are separate downloads from PhysioNet; both need credentials. The archive's
split is kept if all three tables are present: train, development (used as val) and test.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.sources import SourceTable, comma_separated, reading
from trcgl.dataset.table_file import read_table

COLUMNS = ("dicom_id", "subject_id", "study_id", "ViewPosition")
TABLES = {
    "2023": {"train": "train.csv", "val": "development.csv", "test": "test.csv"},
    "2024": {"train": "train_labeled.csv", "val": "development_labeled_task{}.csv", "test": "test_labeled_task{}.csv"},
}
FINDINGS_2023 = comma_separated(
    "Atelectasis, Calcification of the Aorta, Cardiomegaly, Consolidation, Edema, Emphysema, "
    "Enlarged Cardiomediastinum, Fibrosis, Fracture, Hernia, Infiltration, Lung Lesion, Lung Opacity, Mass, "
    "No Finding, Nodule, Pleural Effusion, Pleural Other, Pleural Thickening, Pneumomediastinum, Pneumonia, "
    "Pneumoperitoneum, Pneumothorax, Subcutaneous Emphysema, Support Devices, Tortuous Aorta"
)
ADDED_2024 = comma_separated(
    "Adenopathy, Azygos Lobe, Clavicle Fracture, Fissure, Granuloma, Hydropneumothorax, Infarction, Kyphosis, "
    "Lobar Atelectasis, Pulmonary Embolism, Pulmonary Hypertension, Rib Fracture, Round(ed) Atelectasis, Tuberculosis"
)
VIEWS = {
    **dict.fromkeys(("AP", "PA", "AP AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD"), "frontal"),
    **dict.fromkeys(("LATERAL", "LL", "XTABLE LATERAL"), "lateral"),
}
CELLS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "": None}


@dataclass(frozen=True)
class Options:
    """Release and task of the challenge, and the folder of its tables."""

    release: Literal["auto", "2023", "2024"] = "auto"
    """Release of CXR-LT; `auto`: 2024 if its tables are present, else 2023."""
    task: Literal[1, 2] = 1
    """Task of CXR-LT 2024. 1: 40 findings, labels from reports. 2: 26 findings, val and test labeled by hand."""
    labels: str = ""
    """Folder of the label tables; default: --root."""
    dicom: bool = False
    """Read MIMIC-CXR's `.dcm` files instead of MIMIC-CXR-JPG's `.jpg` files."""


def read(root: Path, options: Options | None = None) -> SourceTable:
    """Read the three label tables of a release.

    Tables and images (`files/p10/…`) are in the root, or as in PhysioNet's downloads a few folders below it, such as
    `cxr-lt-iccv-workshop-cvamd/2.0.0/cxr-lt-2024/` and `mimic-cxr-jpg/2.0.0/`.
    """
    root, options = Path(root), options or Options()
    release, train = _find(Path(options.labels) if options.labels else root, options)
    root = next((folder for folder in _folders(root) if any((folder / "files").glob("p1*"))), root)
    space = _space(release, options.task)
    paths = {split: train.with_name(name.format(options.task)) for split, name in TABLES[release].items()}
    there = {split: path for split, path in paths.items() if path.is_file()}
    official = len(there) == len(paths)
    by_hand = release == "2024" and options.task == 2
    tables: list[pl.DataFrame] = []
    notices: tuple[str, ...] = ()
    for split, path in there.items():
        source = "physician" if by_hand and split != "train" else "report"
        about = {"split": split if official else None, "label_source": source}
        labels, said = _table(path, space)
        notices += said
        tables.append(labels.with_columns(pl.lit(value, pl.String).alias(name) for name, value in about.items()))
    rows, dropped = reading.first_of_each(
        pl.concat(tables),
        (pl.col("image_id").is_null(), "no dicom_id"),
        (pl.col("patient_id").is_null() | pl.col("study_id").is_null(), "no subject_id or study_id"),
        (pl.all_horizontal(pl.col(name).is_null() for name in space.findings), "no labels"),
    )
    ending = ".dcm" if options.dicom else ".jpg"
    patient, study = pl.col("patient_id"), pl.col("study_id")
    below = pl.format("files/p{}/p{}/s{}/{}" + ending, patient.str.head(2), patient, study, pl.col("image_id"))
    files, missing = reading.files_anywhere(root, below, rows, other_endings=not options.dicom)
    rows = rows.with_columns(
        path=files,
        view=pl.when(pl.col("ViewPosition").is_not_null()).then(
            pl.col("ViewPosition").str.to_uppercase().replace_strict(VIEWS, default="other", return_dtype=pl.String)
        ),
    )
    return SourceTable(
        space=space,
        rows=reading.in_order(rows, space),
        dropped=dropped,
        counts={f"rows in {path.name}": len(part) for path, part in zip(there.values(), tables, strict=True)},
        root=root,
        license="PhysioNet Credentialed Health Data License 1.5.0: no redistribution of images or labels.",
        notices=notices,
        missing=missing,
        notes=(
            f"Labels of CXR-LT {release}" + (f", task {options.task}." if release == "2024" else "."),
            "A row without any of the findings counts as a negative of each, as in the challenge.",
            "The challenge's own split."
            if official
            else "Not all tables are present, so patients were divided into new splits.",
        ),
    )


def _find(folder: Path, options: Options) -> tuple[str, Path]:
    """The release and the path of its training table."""
    releases = ("2024", "2023") if options.release == "auto" else (options.release,)
    places = [(release, TABLES[release]["train"]) for release in releases]
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give the archive's folder with --root.")
    for release, name in places:
        # A train.csv of something else is likely; only the given folder and the challenge's own are looked into.
        for place in (folder, *(below for below in _folders(folder) if below.name == f"cxr-lt-{release}")):
            if (place / name).is_file():
                return release, place / name
    every = [f"{above}{name}" for release, name in places for above in ("", f"cxr-lt-{release}/")]
    raise DataError(
        f"{folder}: the CXR-LT training table is missing. Put one of these there, or name its folder with "
        f"--source.labels: {', '.join(every)}."
    )


def _folders(root: Path, depth: int = 5) -> Iterator[Path]:
    """The folder and its subfolders, except the hundreds of thousands of folders that hold images."""
    yield root
    inside = [path for path in root.iterdir() if path.is_dir()] if depth else []
    for folder in sorted(inside):
        if not folder.name.startswith((".", "p1")):
            yield from _folders(folder, depth - 1)


def _space(release: str, task: int) -> LabelSpace:
    findings: tuple[str, ...] = FINDINGS_2023
    if release == "2024":
        findings = tuple("Normal" if name == "No Finding" else name for name in FINDINGS_2023)
        findings = tuple(sorted(findings + ADDED_2024)) if task == 1 else tuple(sorted(findings))
    return LabelSpace(
        name=f"cxr-lt-{release}" + (f"-task{task}" if release == "2024" else ""),
        findings=findings,
        normal="Normal" if release == "2024" else "No Finding",
        raw={name: (name,) for name in findings},
    )


def _table(path: Path, space: LabelSpace) -> tuple[pl.DataFrame, tuple[str, ...]]:
    opened = read_table(path, needed=(*COLUMNS, *space.findings))
    table = opened.frame
    # pandas writes the numbers as 10000032.0 where a row of the table had none.
    numbers = pl.col("subject_id", "study_id").str.strip_chars().str.replace(r"\.0+$", "")
    about = table.with_columns(numbers).select(
        "ViewPosition", image_id="dicom_id", patient_id="subject_id", study_id="study_id"
    )
    labels = table.select(pl.col("dicom_id").alias("image_id"), *space.findings)
    return about.hstack(reading.marked(labels, space.findings, CELLS, path)), opened.notices
