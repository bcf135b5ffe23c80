"""NIH ChestX-ray14 (Wang et al., CVPR 2017): 112,120 frontal radiographs of 30,805 patients, labels mined from reports.

Boxes (`BBox_List_2017.csv`) are in pixels of the original 1024 × 1024 files, even if the files were resized since. If
`test_list.txt` lies beside the table, its images are the test split and the others are divided into train and val.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.labels import Group, LabelSpace
from trcgl.dataset.sources import SourceTable, comma_separated, reading

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017_v2020.csv.gz", "Data_Entry_2017.csv", "Data_Entry_2017.csv.gz")
BOXES = ("BBox_List_2017.csv", "BBox_List_2017.csv.gz")
COLUMNS = comma_separated(
    "Image Index, Finding Labels, Follow-up #, Patient ID, Patient Age, Patient Gender, View Position"
)
IMAGES_IN_ALL = 112_120
NORMAL = "No Finding"
GROUPS: dict[str, Group] = {
    **dict.fromkeys(
        ("Infiltration", "Effusion", "Atelectasis", "Mass", "Nodule", "Pneumothorax", "Consolidation"), "head"
    ),
    **dict.fromkeys(("Cardiomegaly", "Pleural_Thickening", "Pneumonia", "Edema", "Emphysema"), "medium"),
    **dict.fromkeys(("Fibrosis", "Hernia"), "tail"),
}
"""Groups by name, for selections with another prevalence than the whole archive."""
IN_BOXES = {"Infiltrate": "Infiltration"}


@dataclass(frozen=True)
class Options:
    """Options of the NIH source."""

    groups: Literal["auto", "prevalence", "name"] = "auto"
    """Groups head, medium and tail: by share of training images (`prevalence`), as for the whole archive (`name`), or
    `auto`: `prevalence` if --root is the whole archive, else `name`."""


def read(root: Path, options: Options | None = None) -> SourceTable:
    """Read the label table, the boxes and the official lists; images are in `images_*/images/`, `images/` or here."""
    root, options = Path(root), options or Options()
    path = reading.find_file(root, TABLES, "NIH label table")
    table = reading.read_table(path, needed=COLUMNS).rename({"Image Index": "image_id"})
    table = table.with_columns(labels=pl.col("Finding Labels").str.split("|").list.eval(pl.element().str.strip_chars()))
    by_name = options.groups == "name" or (options.groups == "auto" and table.height < IMAGES_IN_ALL)
    space = _space(by_name)
    _refuse_unknown(table.select("image_id", label="labels").explode("label"), space, path)
    rows, dropped = reading.first_of_each(
        table,
        (pl.col("image_id").is_null(), "no Image Index"),
        (pl.col("Patient ID").is_null(), "no Patient ID"),
        (pl.col("Finding Labels").is_null(), "no labels"),
    )
    files = _files(root)
    rows = rows.with_columns(
        pl.col("labels").list.contains(finding).cast(pl.Int8).alias(finding) for finding in space.findings
    ).with_columns(
        reading.none_of(space),
        patient_id=pl.col("Patient ID"),
        study_id=pl.concat_str("Patient ID", "Follow-up #", separator="-"),
        view=reading.view("View Position", {"PA": "frontal", "AP": "frontal"}),
        label_source=pl.lit("report"),
        age=reading.age_in_years("Patient Age"),
        sex=reading.sex("Patient Gender"),
        path=pl.col("image_id").replace_strict(files, default="images/" + pl.col("image_id"), return_dtype=pl.String),
        split=_official(root),
    )
    boxes = _boxes(root, space)
    return SourceTable(
        space=space,
        rows=reading.in_order(rows, space),
        dropped=dropped,
        boxes=boxes,
        counts={
            "rows in the table": table.height,
            "impossible ages": int(rows["age"].is_null().sum()),
            "boxes in the list": 0 if boxes is None else boxes.height,
        },
        root=root,
        box_frame=(1024, 1024),
        license="NIH Clinical Center, ChestX-ray14 (Wang et al., CVPR 2017): free use with attribution.",
        notes=("Labels were mined from reports; their authors put the error above 10 %.",),
    )


def _space(by_name: bool) -> LabelSpace:
    return LabelSpace(
        name="nih14",
        findings=(*GROUPS, NORMAL),
        groups={**GROUPS, NORMAL: "head"} if by_name else {},
        group_rule="name" if by_name else "prevalence",
        normal=NORMAL,
        normal_in_means=False,
        raw={finding: (finding,) for finding in (*GROUPS, NORMAL)},
    )


def _refuse_unknown(labels: pl.DataFrame, space: LabelSpace, path: Path) -> None:
    """Raise a DataError for the first label (columns image_id, label) that is not in the label space."""
    unknown = labels.filter(~pl.col("label").is_in(space.findings) & (pl.col("label") != ""))
    if unknown.height:
        image, label = unknown.row(0)
        raise DataError(
            f"{path}: image {image!r} has the unknown label {label!r}; the labels are {', '.join(space.findings)}. "
            "Correct that row."
        )


def _files(root: Path) -> dict[str, str]:
    folders = [root, root / "images", *sorted(root.glob("images_*/images"))]
    return {path.name: path.relative_to(root).as_posix() for folder in folders for path in folder.glob("*.png")}


def _official(root: Path) -> pl.Expr:
    path = root / "test_list.txt"
    if not path.exists():
        return pl.lit(None, pl.String)
    try:
        names = path.read_text(encoding="utf-8").split()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a list of file names ({error}).") from error
    return pl.when(pl.col("image_id").is_in(names)).then(pl.lit("test"))


def _boxes(root: Path, space: LabelSpace) -> pl.DataFrame | None:
    path = next((root / name for name in BOXES if (root / name).exists()), None)
    if path is None:
        return None
    # The header is `Image Index,Finding Label,Bbox [x,y,w,h],,,`: columns are taken by position.
    table = reading.read_table(path, has_header=False)
    if table.width < 6:
        raise DataError(f"{path}: {table.width} columns, expected image, finding, x, y, w and h.")
    names = ("image_id", "finding", "x", "y", "w", "h")
    table = table.slice(1).select(pl.nth(place).alias(name) for place, name in enumerate(names))
    table = table.with_columns(pl.col("finding").replace(IN_BOXES))
    _refuse_unknown(table.select("image_id", label="finding"), space, path)
    boxes = table.with_columns(pl.col("x", "y", "w", "h").cast(pl.Float64, strict=False))
    if (bad := boxes.filter(pl.any_horizontal(pl.col("x", "y", "w", "h").is_null()))).height:
        raise DataError(f"{path}: the box of {bad['image_id'][0]!r} is not four numbers. Correct that row.")
    return boxes
