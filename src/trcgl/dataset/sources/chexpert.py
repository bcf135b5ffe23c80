"""CheXpert (Irvin et al., AAAI 2019): 223,414 radiographs of 64,540 patients, 14 observations mined from reports.

An observation is 1 (stated), 0 (denied), -1 (uncertain) or blank (not mentioned). An uncertain cell is unknown unless
the option `uncertain` is set (the paper's U-Zeros and U-Ones). A blank cell is absent, as in the paper's models: a
report lists findings and denies few. A row in which every cell is blank is set aside.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.sources import SourceTable, comma_separated, reading
from trcgl.dataset.table_file import read_table

TRAIN = ("train.csv", "train.csv.gz", "CheXpert-v1.0*/train.csv", "chexpert_train.csv.gz")
EXPERT = ("test.csv", "CheXpert-v1.0*/test.csv", "valid.csv", "CheXpert-v1.0*/valid.csv")
BATCHES = "CheXpert-v1.0*batch*"
"""Folders of the full-resolution archive: `CheXpert-v1.0 batch 2 (train 1)/patient00001/…`."""
NORMAL = "No Finding"
FINDINGS = comma_separated(
    "Enlarged Cardiomediastinum, Cardiomegaly, Lung Opacity, Lung Lesion, Edema, Consolidation, Pneumonia, "
    "Atelectasis, Pneumothorax, Pleural Effusion, Pleural Other, Fracture, Support Devices"
)
SPACE = LabelSpace(
    name="chexpert13",
    findings=(*FINDINGS, NORMAL),
    normal=NORMAL,
    normal_in_means=False,
    raw={finding: (finding,) for finding in (*FINDINGS, NORMAL)},
)
MEANING = {"unknown": None, "absent": 0, "present": 1}


@dataclass(frozen=True)
class Options:
    """Meaning of uncertain and blank cells, and the choice of the test split."""

    uncertain: Literal["unknown", "absent", "present"] = "unknown"
    """Meaning of -1 (uncertain). Unknown labels are masked in training and in every metric."""
    blank: Literal["absent", "unknown"] = "absent"
    """Meaning of a blank cell; where No Finding is 1 a blank always means absent."""
    test: Literal["own", "expert"] = "own"
    """Test split: `own` divides train.csv into three splits; `expert` tests on the images read by radiologists
    (test.csv, else valid.csv) and divides train.csv into train and val."""


def read(root: Path, options: Options | None = None) -> SourceTable:
    """Read `train.csv`, and for `test="expert"` the table of the images that radiologists read."""
    root, options = Path(root), options or Options()
    path = reading.find_file(root, TRAIN, "CheXpert label table")
    table, notices = _table(path, options)
    table = table.with_columns(split=pl.lit(None, pl.String), label_source=pl.lit("report"))
    counts = {"rows in the table": table.height}
    if options.test == "expert":
        expert, said = _table(reading.find_file(root, EXPERT, "table of expert labels"), options)
        notices += said
        counts["rows read by radiologists"] = expert.height
        table = pl.concat([table, expert.with_columns(split=pl.lit("test"), label_source=pl.lit("physician"))])
    rows, dropped = reading.first_of_each(
        table, (pl.col("image_id").is_null(), "no Path"), (pl.col("patient_id").is_null(), "no patient in its Path")
    )
    base = _images(root, path, table)
    if not (base / "train").is_dir():
        base, batch = _in_batches(root, path)
        below = pl.col("image_id").str.extract(r"(/study.*)$")
        folder = pl.col("patient_id").replace_strict(batch, default=None, return_dtype=pl.String)
        rows = rows.with_columns(path=pl.coalesce(folder + below, "image_id"))
    return SourceTable(
        space=SPACE,
        rows=reading.in_order(rows, SPACE),
        dropped=dropped,
        counts=counts,
        root=base,
        notices=notices,
        license="Stanford University Dataset Research Use Agreement: non-commercial research, no redistribution.",
        notes=(
            "Labels were mined from reports by a rule-based labeler.",
            f"An uncertain label (-1) means {options.uncertain}, a blank label {options.blank}.",
        ),
    )


def _table(path: Path, options: Options) -> tuple[pl.DataFrame, tuple[str, ...]]:
    opened = read_table(path, needed=("Path", *SPACE.findings))
    # The tables of expert labels have no patient columns; the path contains the view in every table.
    missing = [name for name in ("Age", "Sex") if not opened.has(name)]
    table = opened.frame.with_columns(pl.lit(None, pl.String).alias(name) for name in missing)
    table = table.with_columns(image_id=_below_archive())
    uncertain, blank = MEANING[options.uncertain], MEANING[options.blank]
    meaning = {"1.0": 1, "1": 1, "0.0": 0, "0": 0, "-1.0": uncertain, "-1": uncertain, "": blank}
    labels = reading.marked(table, SPACE.findings, meaning, path)
    silent = pl.all_horizontal(pl.col(name).is_null() for name in SPACE.findings)
    set_aside = table.select(set_aside=pl.when(silent).then(pl.lit("no observation is mentioned")))
    normal = labels.select(
        pl.when((pl.col(NORMAL) == 1) & table[name].is_null()).then(0).otherwise(pl.col(name)).cast(pl.Int8).alias(name)
        for name in SPACE.findings
    )
    patient = pl.col("image_id").str.extract(r"(patient\d+)")
    about = table.select(
        "Path",
        "image_id",
        patient_id=patient,
        study_id=pl.concat_str(patient, pl.col("image_id").str.extract(r"(study\d+)"), separator="/"),
        view=pl.col("image_id").str.extract("_(frontal|lateral)"),
        age=reading.age_in_years("Age"),
        sex=reading.sex("Sex"),
        path="image_id",
    )
    return pl.concat([about, normal, set_aside], how="horizontal"), opened.notices


def _below_archive() -> pl.Expr:
    """`CheXpert-v1.0-small/train/patient00001/…` without the name of the archive, which differs between sizes."""
    path = pl.col("Path").str.strip_chars()
    return pl.coalesce(path.str.extract(r"(?:^|/)((?:train|valid|test)/.+)$"), path)


def _images(root: Path, path: Path, table: pl.DataFrame) -> Path:
    """The folder with `train/`: beside the label table, or named like the first part of the paths."""
    named = table["Path"].drop_nulls().str.split("/").list.first().head(1)
    folders = [path.parent, *(root / name for name in named if name not in ("", ".."))]
    return next((folder for folder in folders if (folder / "train").is_dir()), path.parent)


def _in_batches(root: Path, path: Path) -> tuple[Path, dict[str, str]]:
    """The folder with the batches of the full-resolution archive, and patient to folder below it."""
    for base in (root, path.parent, path.parent.parent):
        found: dict[str, str] = {}
        for batch in reading.matching(base, BATCHES):
            for folder in (batch, batch / "train", batch / "valid"):
                for patient in sorted(folder.glob("patient*")):
                    found.setdefault(patient.name, patient.relative_to(base).as_posix())
        if found:
            return base, found
    return path.parent, {}
