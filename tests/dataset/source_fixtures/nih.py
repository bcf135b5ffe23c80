"""NIH ChestX-ray14: labels between bars, a header that is cut by its own commas, impossible ages, an official list."""

from pathlib import Path

from tests.dataset.source_fixtures import Case, radiograph

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
# image, labels, follow-up, patient, age, gender, findings (None: dropped)
ROWS = [
    ("00000001_000.png", "Cardiomegaly", 0, 1, "58", "M", {"Cardiomegaly"}),
    ("00000001_001.png", "Cardiomegaly|Emphysema", 1, 1, "058Y", "M", {"Cardiomegaly", "Emphysema"}),
    ("00000002_000.png", "No Finding", 0, 2, "411", "F", {"No Finding"}),
    ("00000003_000.png", "Hernia", 0, 3, "70", "F", {"Hernia"}),
    ("00000003_001.png", "Hernia|Infiltration", 1, 3, "71", "F", {"Hernia", "Infiltration"}),
    ("00000004_000.png", "Mass|Nodule", 0, 4, "33", "", {"Mass", "Nodule"}),
    ("00000005_000.png", "Hernia", 0, 5, "16", "M", {"Hernia"}),
    ("00000006_000.png", "Effusion|Pleural_Thickening", 0, 6, "44", "F", {"Effusion", "Pleural_Thickening"}),
    ("00000007_000.png", "", 0, 7, "44", "F", None),
    ("00000008_000.png", "No Finding", 0, 8, "12", "F", {"No Finding"}),
    ("00000009_000.png", "Atelectasis", 0, 9, "80", "M", {"Atelectasis"}),
    ("00000009_000.png", "Atelectasis", 0, 9, "80", "M", None),
    ("00000010_000.png", "Fibrosis", 0, 10, "80", "M", {"Fibrosis"}),
    ("00000011_000.png", "Edema", 0, 11, "80", "M", {"Edema"}),
]
BOXES = """Image Index,Finding Label,Bbox [x,y,w,h],,,
00000009_000.png,Atelectasis,225.084745762712,547.019216763771,86.7796610169491,79.1864406779661
00000003_001.png,Infiltrate,512,256,256,128
00000001_000.png,Cardiomegaly,100.5,400,700,400
"""


def build(folder: Path) -> Case:
    """Fourteen rows as in the archive; images lie in numbered folders, one is missing and one is no image."""
    lines = [
        f"{image},{labels},{follow},{patient},{age},{gender},PA,2682,2749,0.14300000000000002,0.14300000000000002"
        for image, labels, follow, patient, age, gender, _ in ROWS
    ]
    # The archive's own files carry a byte-order mark in some copies.
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8-sig")
    (folder / "BBox_List_2017.csv").write_text(BOXES)
    (folder / "test_list.txt").write_text("00000003_000.png\n00000003_001.png\n00000002_000.png\n")
    names = sorted({row[0] for row in ROWS} - {"00000010_000.png"})
    for number, image in enumerate(names):
        radiograph(folder / f"images_{1 + number % 2:03d}" / "images" / image, (64, 64), seed=number)
    next(folder.glob("*/images/00000011_000.png")).write_text("<html>404</html>")
    return Case(
        root=folder,
        present={image: found for image, *_, found in ROWS if found is not None},
        dropped={"00000007_000.png": "no labels", "00000009_000.png": "more than once"},
        unusable={"00000010_000.png": "no such file", "00000011_000.png": ""},
        table="Data_Entry_2017_v2020.csv",
        column="Patient ID",
        boxes=3,
        official={name: "test" for name in ("00000003_000.png", "00000003_001.png", "00000002_000.png")},
    )
