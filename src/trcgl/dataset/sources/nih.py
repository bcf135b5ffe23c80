"""NIH ChestX-ray14 (Wang et al., CVPR 2017): 112,120 frontal radiographs of 30,805 patients, labels mined from reports.

Boxes (`BBox_List_2017.csv`) are in pixels of the original 1024 × 1024 files, even if the files were resized since. If
`test_list.txt` (in other copies `test_list_NIH.txt`) lies beside the table, its images are the test split and the
others are divided into train and val.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.labels import Group, LabelSpace
from trcgl.dataset.sources import SourceTable, comma_separated, reading
from trcgl.dataset.table_file import read_table

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017_v2020.csv.gz", "Data_Entry_2017.csv", "Data_Entry_2017.csv.gz")
BOXES = ("BBox_List_2017.csv", "BBox_List_2017.csv.gz", "BBox_List_2017*.csv*")
TEST_LISTS = ("test_list.txt", "test_list*.txt")
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
    """Read the label table, the boxes and the official list.

    Images are in `images_*/images/`, in `images/`, beside the table, or else anywhere below the root as PNG or JPEG.
    """
    root, options = Path(root), options or Options()
    path = reading.find_file(root, TABLES, "NIH label table")
    opened = read_table(path, needed=COLUMNS)
    table = opened.frame.select(COLUMNS).rename({"Image Index": "image_id"})
    table = table.with_columns(labels=pl.col("Finding Labels").str.split("|").list.eval(_spelled(pl.element())))
    by_name = options.groups == "name" or (options.groups == "auto" and table.height < IMAGES_IN_ALL)
    space = _space(by_name)
    _refuse_unknown(table.select("image_id", label="labels").explode("label"), space, path)
    rows, dropped = reading.first_of_each(
        table,
        (pl.col("image_id").is_null(), "no Image Index"),
        (pl.col("Patient ID").is_null(), "no Patient ID"),
        (pl.col("Finding Labels").is_null(), "no labels"),
    )
    files, missing = _files(root, rows)
    official, unofficial = _official(root, rows["image_id"])
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
        path=files,
        split=official,
    )
    boxes = _boxes(root, space)
    rows = reading.in_order(rows, space)
    return SourceTable(
        space=space,
        rows=rows,
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
        notices=(*opened.notices, *unofficial, *reading.normal_with_findings(rows, space)),
        missing=missing,
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


def _spelled(label: pl.Expr) -> pl.Expr:
    """`Pleural Thickening` of some copies as `Pleural_Thickening`."""
    label = label.str.strip_chars()
    return pl.when(label == NORMAL).then(label).otherwise(label.str.replace_all(" ", "_", literal=True))


def _files(root: Path, rows: pl.DataFrame) -> tuple[pl.Series, dict[str, str]]:
    """Path of every image below the root, and the reasons why some were not found."""
    folders = [root, root / "images", *sorted(root.glob("images_*/images"))]
    known = {path.name: path.relative_to(root).as_posix() for folder in folders for path in folder.glob("*.png")}
    expected = "images/" + pl.col("image_id")
    path = pl.col("image_id").replace_strict(known, default=expected, return_dtype=pl.String)
    return reading.files_anywhere(root, path, rows)


def _official(root: Path, images: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    """The test split where the official list gives it, else null, and a sentence if there is no list.

    Raises:
        DataError: the list cannot be read, or none of its names is an image of the table.
    """
    nothing = pl.Series("split", [None] * len(images), pl.String)
    path = next((path for name in TEST_LISTS for path in reading.matching(root, name)), None)
    if path is None:
        return nothing, ("no official list (test_list.txt) was found, so patients are divided into new splits.",)
    try:
        lines = path.read_text(encoding="utf-8-sig").split()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a list of file names ({error}).") from error
    listed = {_stem(line.strip(",;\"'")) for line in lines}
    test = pl.Series([_stem(image) in listed for image in images], dtype=pl.Boolean)
    if not test.any():
        raise DataError(
            f"{path}: none of its {len(lines):,} names is an image of the table. Replace it by the archive's own list, "
            "or remove it to divide patients into new splits."
        )
    return nothing.zip_with(~test, pl.Series(["test"] * len(images), dtype=pl.String)), ()


def _stem(name: str) -> str:
    r"""`00000001_000` of `images\00000001_000.png`, with or without folder and file extension."""
    return PurePosixPath(name.replace("\\", "/")).name.split(".")[0]


def _boxes(root: Path, space: LabelSpace) -> pl.DataFrame | None:
    path = next((path for name in BOXES for path in reading.matching(root, name)), None)
    if path is None:
        return None
    # The header is `Image Index,Finding Label,Bbox [x,y,w,h],,,`: columns are taken by position.
    table = read_table(path, has_header=False).frame
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
