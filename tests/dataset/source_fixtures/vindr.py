"""VinBigData's table: one row per reader and box, readers who disagree, rows without an image and rows that repeat."""

from pathlib import Path

from tests.dataset.source_fixtures import Case, radiograph

HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"


def row(image: int, finding: str, reader: int, box: tuple[int, ...] = ()) -> str:
    """One mark of one reader."""
    return f"{name(image)},{finding},0,R{reader},{','.join(map(str, box)) or ',,,'}"


def name(image: int) -> str:
    """32 hexadecimal digits, as the archive's."""
    return f"{image:032x}"


ROWS = [
    *(row(1, "No finding", reader) for reader in (8, 9, 10)),
    row(2, "Cardiomegaly", 8, (100, 200, 300, 400)),
    row(2, "Cardiomegaly", 9, (110, 200, 310, 400)),
    row(2, "Cardiomegaly", 10, (105, 200, 305, 400)),
    row(2, "Cardiomegaly", 10, (105, 200, 305, 400)),
    row(2, "ILD", 8, (10, 10, 50, 50)),
    row(3, "Nodule/Mass", 8, (10, 10, 20, 20)),
    row(3, "Nodule/Mass", 8, (60, 60, 80, 80)),
    row(3, "Nodule/Mass", 9, (60, 60, 80, 82)),
    row(3, "No finding", 10),
    row(4, "Atelectasis", 8, (1, 1, 9, 9)),
    row(4, "Consolidation", 9, (1, 1, 9, 9)),
    row(4, "No finding", 10),
    row(5, "No finding", 8),
    row(5, "No finding", 9),
    row(5, "Calcification", 10, (1, 1, 9, 9)),
    *(row(image, "Pleural effusion", reader, (0, 0, 9, 9)) for image in range(6, 12) for reader in (1, 2, 3)),
    ",Cardiomegaly,3,R8,1,1,9,9",
]


def build(folder: Path) -> Case:
    """Eleven images; one is missing and one is an HTML page. The files are named .dicom and read by their content."""
    (folder / "train.csv").write_text("\n".join([HEADER, *ROWS, ""]))
    for image in range(1, 11):
        radiograph(folder / "train" / f"{name(image)}.png", (450, 420), seed=image)
        (folder / "train" / f"{name(image)}.png").rename(folder / "train" / f"{name(image)}.dicom")
    (folder / "train" / f"{name(10)}.dicom").write_text("<html>403</html>")
    return Case(
        root=folder,
        present={
            name(1): {"No finding"},
            name(2): {"Cardiomegaly"},
            name(3): {"Nodule/Mass"},
            name(4): set(),
            name(5): {"No finding"},
            **{name(image): {"Pleural effusion"} for image in range(6, 12)},
        },
        dropped={"(no name)": "no image_id"},
        unusable={name(10): "not a PNG", name(11): "no such file"},
        table="train.csv",
        column="rad_id",
        boxes=1 + 2 + 6,
    )
