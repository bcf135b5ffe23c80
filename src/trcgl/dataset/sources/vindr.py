"""VinDr-CXR (Nguyen et al., Scientific Data 2022): 15,000 radiographs, each read by three of 17 radiologists.

Reads the table of the VinBigData challenge (`train.csv`, 14 findings) or of PhysioNet (`annotations/`, 22 findings and
6 diagnoses; its 3,000 test images have a consensus reading). A finding is present if most readers of the image mark it.
An image is set aside if no two readers agree on anything.

Overlapping boxes of a finding (intersection over union of at least 0.5) are averaged; only findings that count as
present keep boxes. Boxes are in pixels of the DICOM files, so copies in another format get none.

No patient identifiers were published: every image counts as its own patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.image_files import below
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.sources import SourceTable, comma_separated, reading
from trcgl.dataset.table_file import read_table

CHALLENGE = ("train.csv", "train.csv.gz", "vinbigdata-train.csv.gz")
PHYSIONET = ("annotations/image_labels_train.csv", "image_labels_train.csv")
NORMAL = "No finding"
FINDINGS = comma_separated(
    "Aortic enlargement, Atelectasis, Calcification, Cardiomegaly, Consolidation, ILD, Infiltration, Lung Opacity, "
    "Nodule/Mass, Other lesion, Pleural effusion, Pleural thickening, Pneumothorax, Pulmonary fibrosis"
)
"""Findings of the challenge in the order of its `class_id`."""
SPELLINGS = {"Other disease": "Other diseases"}  # A column has different names in PhysioNet's test and train tables
CORNERS = ("x_min", "y_min", "x_max", "y_max")
OVERLAP = 0.5
DICOM = (".dicom", ".dcm")
FILES = (*DICOM, ".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Options:
    """Rule for combining the readings of an image."""

    agreement: Literal["majority", "any"] = "majority"
    """When a finding is present: `majority`: more than half of the readers of the image mark it; `any`: at least one
    reader marks it."""


def read(root: Path, options: Options | None = None) -> SourceTable:
    """Read and combine the readings; images are in `train/`, `test/`, `images/` or elsewhere below the root."""
    root, options = Path(root), options or Options()
    physionet = next((root / name for name in PHYSIONET if (root / name).is_file()), None)
    if physionet is not None:
        findings, marks, notices = _physionet(physionet)
    else:
        findings, marks, notices = _challenge(reading.find_file(root, (*CHALLENGE, *PHYSIONET), "VinDr label table"))
    space = LabelSpace(
        name=f"vindr{len(findings)}",
        findings=(*findings, NORMAL),
        normal=NORMAL,
        normal_in_means=False,
        raw={finding: (finding,) for finding in (*findings, NORMAL)},
    )
    marks, dropped = reading.split_off(marks, (pl.col("image_id").is_null(), "no image_id"))
    present = _present(marks, options)
    files = _files(root)
    if not files.keys() & set(present["image_id"]):
        files = _files_anywhere(root)
    rows = present.select("image_id", "split", "label_source", *_labels(space)).with_columns(
        set_aside=pl.when(pl.sum_horizontal(space.findings) == 0).then(pl.lit("no two readers agree on anything")),
        patient_id=pl.col("image_id"),
        view=pl.lit("frontal"),
        path=pl.col("image_id").replace_strict(
            files, default="train/" + pl.col("image_id") + ".dicom", return_dtype=pl.String
        ),
    )
    marked = marks.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in CORNERS))
    boxes = _joined(marked.join(present.select("image_id", "found"), on="image_id"))
    original = all(name.endswith(DICOM) for name in files.values())
    return SourceTable(
        space=space,
        rows=reading.in_order(rows, space),
        dropped=dropped,
        boxes=boxes if original else None,
        counts={
            "marks of all readers": marks["finding"].count(),
            "boxes of all readers": marked.height,
            "boxes after joining": boxes.height,
        },
        root=root,
        license="PhysioNet Credentialed Health Data License 1.5.0, or the rules of the VinBigData challenge: research.",
        notices=notices,
        notes=(
            f"A finding is present if {'most readers mark' if options.agreement == 'majority' else 'any reader marks'} "
            "it; what fewer mark counts as absent.",
            "No patient identifiers were published: every image counts as its own patient.",
            *(() if original else ("The boxes are in pixels of the DICOM files, which these are not: left out.",)),
        ),
    )


def _challenge(path: Path) -> tuple[tuple[str, ...], pl.DataFrame, tuple[str, ...]]:
    opened = read_table(path, needed=("image_id", "class_name", "rad_id", *CORNERS))
    marks = _marks(opened.frame.with_columns(reader="rad_id"), path)
    marks = marks.with_columns(split=pl.lit(None, pl.String), label_source=pl.lit("readers"))
    return FINDINGS, _known(marks, FINDINGS, path), opened.notices


def _physionet(train: Path) -> tuple[tuple[str, ...], pl.DataFrame, tuple[str, ...]]:
    """The wide tables of labels and the long ones of boxes; a split without its tables is left out."""
    findings: tuple[str, ...] = ()
    parts: list[pl.DataFrame] = []
    notices: tuple[str, ...] = ()
    for split in ("train", "test"):
        path = train.with_name(f"image_labels_{split}.csv")
        if not path.is_file():
            continue
        opened = read_table(path, needed=("image_id", NORMAL)).renamed(SPELLINGS)
        table = opened.frame
        notices += opened.notices
        findings = findings or tuple(name for name in table.columns if name not in ("image_id", "rad_id", NORMAL))
        opened.require((*findings, *(("rad_id",) if split == "train" else ())))
        reader = pl.col("rad_id") if split == "train" else pl.lit("consensus")
        names = (*findings, NORMAL)
        cells = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "": 0}
        labels = table.select("image_id", reader=reader).hstack(reading.marked(table, names, cells, path))
        long = labels.unpivot(on=names, index=["image_id", "reader"], variable_name="finding").filter(
            pl.col("value") == 1
        )
        # A reader who marks nothing at all still counts as a reader.
        silent = labels.select("image_id", "reader", finding=pl.lit(None, pl.String))
        marks = [
            without_box.with_columns(pl.lit(None, pl.Float64).alias(name) for name in CORNERS)
            for without_box in (silent, long.drop("value"))
        ]
        boxes = train.with_name(f"annotations_{split}.csv")
        if boxes.is_file():
            marked = read_table(boxes, needed=("image_id", "class_name", *CORNERS)).frame.with_columns(reader=reader)
            marks.append(_known(_marks(marked, boxes), findings, boxes))
        source = "readers" if split == "train" else "consensus"
        # Only where both are there does the archive divide its images: train is divided into train and val.
        given = pl.lit("test" if split == "test" else None, pl.String)
        parts.append(pl.concat(marks).with_columns(split=given, label_source=pl.lit(source)))
    return findings, pl.concat(parts), notices


def _marks(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """A row per reader and finding, with the corners of its box if there is a box."""
    finding = pl.col("class_name").replace(SPELLINGS).alias("finding")
    marks = table.select("image_id", "reader", finding, pl.col(*CORNERS).cast(pl.Float64, strict=False))
    half = (
        table.select(bad=pl.sum_horizontal(pl.col(*CORNERS).is_not_null()).is_in([1, 2, 3]))["bad"]
        | marks.select(bad=(pl.col("x_max") <= pl.col("x_min")) | (pl.col("y_max") <= pl.col("y_min")))["bad"]
    )
    lost = table.select("x_min").to_series().is_not_null() & marks["x_min"].is_null()
    if (bad := marks.filter((half | lost).fill_null(False))).height:
        raise DataError(f"{path}: a box of {bad['image_id'][0]!r} has no area or a missing corner. Correct that row.")
    return marks


def _known(marks: pl.DataFrame, findings: Sequence[str], path: Path) -> pl.DataFrame:
    strange = marks.filter(~pl.col("finding").is_in([*findings, NORMAL]).fill_null(False))
    if strange.height:
        raise DataError(
            f"{path}: image {strange['image_id'][0]!r} has the unknown finding {strange['finding'][0]!r}; there are "
            f"{', '.join(findings)} and {NORMAL}. Correct that row."
        )
    return marks


def _present(marks: pl.DataFrame, options: Options) -> pl.DataFrame:
    """A row per image with `found`, the findings that count as present."""
    images = marks.group_by("image_id", maintain_order=True).agg(
        pl.col("split", "label_source").first(), readers=pl.col("reader").n_unique()
    )
    votes = (
        marks.drop_nulls("finding")
        .group_by("image_id", "finding", maintain_order=True)
        .agg(votes=pl.col("reader").n_unique())
    )
    votes = votes.join(images.select("image_id", "readers"), on="image_id")
    enough = pl.col("votes") * 2 > pl.col("readers") if options.agreement == "majority" else pl.col("votes") > 0
    # "No finding" of a reader does not count beside a finding of another.
    counted = votes.filter(enough).group_by("image_id").agg(found=pl.col("finding"))
    counted = counted.with_columns(
        found=pl.when(pl.col("found").list.len() > 1)
        .then(pl.col("found").list.set_difference([NORMAL]))
        .otherwise(pl.col("found"))
    )
    return images.join(counted, on="image_id", how="left").with_columns(pl.col("found").fill_null([])).sort("image_id")


def _labels(space: LabelSpace) -> list[pl.Expr]:
    return [pl.col("found").list.contains(finding).cast(pl.Int8).alias(finding) for finding in space.findings]


def _joined(marks: pl.DataFrame) -> pl.DataFrame:
    """Boxes of present findings, overlapping ones averaged, as image_id, finding, x, y, w, h."""
    present = marks.filter(pl.col("found").list.contains(pl.col("finding"))).sort(
        "image_id", "finding", "reader", *CORNERS
    )
    groups = present.group_by("image_id", "finding", maintain_order=True).agg(box=pl.concat_list(*CORNERS))
    rows = [
        (image, finding, left, top, right - left, bottom - top)
        for image, finding, boxes in groups.iter_rows()
        for left, top, right, bottom in join_boxes(boxes)
    ]
    names = {"image_id": pl.String, "finding": pl.String, **dict.fromkeys(("x", "y", "w", "h"), pl.Float64)}
    return pl.DataFrame(rows, schema=names, orient="row")


def join_boxes(boxes: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """Average overlapping boxes: each joins the group whose mean it overlaps most, if by at least `OVERLAP`.

    Args:
        boxes: left, top, right and bottom of each box.

    Returns:
        The mean of every group, in the order of their first boxes.
    """
    groups: list[list[Sequence[float]]] = []
    means: list[tuple[float, ...]] = []
    for box in boxes:
        overlaps = [_overlap(box, mean) for mean in means]
        best = max(range(len(overlaps)), key=overlaps.__getitem__, default=None)
        if best is None or overlaps[best] < OVERLAP:
            groups.append([box])
            means.append(tuple(box))
        else:
            groups[best].append(box)
            means[best] = tuple(sum(side) / len(side) for side in zip(*groups[best], strict=True))
    return means


def _overlap(box: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = sum((right - left) * (bottom - top) for left, top, right, bottom in (box, other))
    return wide * high / (areas - wide * high)


def _files(root: Path) -> dict[str, str]:
    """Image to its file below the root; a DICOM file is preferred to a copy in another format."""
    found: dict[str, str] = {}
    for folder in (root, root / "images", root / "train", root / "test"):
        for path in sorted(folder.glob("*"), key=lambda file: FILES.index(file.suffix) if file.suffix in FILES else 99):
            if path.suffix in FILES:
                found.setdefault(path.stem, path.relative_to(root).as_posix())
    return found


def _files_anywhere(root: Path) -> dict[str, str]:
    """Image to its file in any folder below the root, for copies of the archive with other folders and endings."""
    found: dict[str, str] = {}
    paths = [(PurePosixPath(path), path) for path in below(root)]
    files = [
        (FILES.index(name.suffix.lower()), path, name.stem) for name, path in paths if name.suffix.lower() in FILES
    ]
    for _, path, stem in sorted(files):
        found.setdefault(stem, path)
    return found
