"""CXR-LT 2026 beside PadChest: rounded patients, a removal list, test lists without labels, rows of zeros."""

import csv
from pathlib import Path

from tests.dataset.source_fixtures import Case, radiograph
from tests.dataset.source_fixtures.padchest import HEADER, PATIENT
from trcgl.dataset.sources.cxr_lt_2026 import CLASSES, REMOVAL, TEST_LISTS, TRAINING
from trcgl.dataset.sources.padchest_findings import SPACE

FINDINGS = tuple(sorted(SPACE.findings))
"""The order of the challenge's files, which is not that of PadChest-30."""
UNSEEN = ("Scoliosis", "Osteopenia", "Bulla", "Infarction", "Adenopathy", "Goiter")

# image, patient, projection, findings (None: dropped)
TRAINED = [
    ("a0", 1, "PA", {"Normal"}),
    ("a1", 1, "L", {"Normal"}),
    ("b0", 2, "PA", {"cardiomegaly", "pleural effusion"}),
    ("c0", 3, "AP_horizontal", set()),
    ("d0", 4, "PA", {"Support Devices"}),
    ("e0", 5, "AP", {"Hydropneumothorax"}),
    ("f0", 6, "PA", {"pneumoperitoneo"}),
    ("g0", 7, "UNK", {"Nodule"}),
    ("h0", 8, "PA", {"Mass"}),
    ("i0", 9, "PA", {"fracture"}),
    ("j0", 10, "PA", {"Emphysema"}),
    ("k0", 11, "PA", {"Normal"}),
    ("r0", 1, "PA", None),
    ("x0", None, "PA", None),
    ("a0", 1, "PA", None),
    ("t0", 20, "PA", None),
]
TESTED = [("t0", 20, "PA"), ("t1", 21, "L"), ("t2", 1, "PA")]
OTHER_ARCHIVE = "00000001_000"


def image_path(folder: Path, image: str, patient: int) -> Path:
    """Where the archive has an image."""
    return folder / str(patient % 3) / f"{image}.png"


def build(folder: Path) -> Case:
    """Sixteen training rows; an image is missing, one is cut short, one is removed, one is unknown to PadChest."""
    write_padchest(folder, {(image, patient, view) for image, patient, view, _ in TRAINED if patient} | {*TESTED})
    lines = [["ImageID", "StudyDate_DICOM", "PatientID", *FINDINGS]]
    for image, _, _, found in TRAINED:
        marks = ["1" if finding in (found or ()) else "0" for finding in FINDINGS]
        lines.append([f"{image}.png", "20140915", "8.4E+38", *marks])
    write_csv(folder / TRAINING, lines)
    write_csv(folder / REMOVAL, [["ImageID"], ["r0.png"]])
    (folder / CLASSES).write_text("\n".join(FINDINGS) + "\n")
    (folder / "Eval_Class_Task2.txt").write_text("\n".join(UNSEEN) + "\n")
    tested = [[f"{image}.png", "20150101", "8.4E+38"] for image, *_ in TESTED] + [[f"{OTHER_ARCHIVE}.png", "", ""]]
    for name in TEST_LISTS.values():
        write_csv(folder / name, [["ImageID", "StudyDate_DICOM", "PatientID"], *tested])
    radiograph(folder / "nih" / f"{OTHER_ARCHIVE}.png", (48, 40), seed=99)
    image_path(folder, "j0", 10).unlink()
    damaged = image_path(folder, "k0", 11)
    damaged.write_bytes(damaged.read_bytes()[:500])
    return Case(
        root=folder,
        present={f"{image}.png": found for image, _, _, found in TRAINED if found is not None},
        dropped={
            "r0.png": "Removal.csv",
            "x0.png": "not in PadChest",
            "a0.png": "more than once",
            "t0.png": "test list of task 1",
        },
        unusable={"j0.png": "no such file", "k0.png": ""},
        table=TRAINING,
        column="PatientID",
    )


def write_padchest(folder: Path, images: set[tuple[str, int, str]]) -> None:
    """PadChest's own table, and a file of 16 bits for each (image, patient, projection)."""
    with open(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "w", newline="") as handle:
        table = csv.DictWriter(handle, HEADER, restval="None")
        table.writeheader()
        for number, (image, patient, projection) in enumerate(sorted(images)):
            path = image_path(folder, image, patient)
            table.writerow(
                {
                    "ImageID": path.name,
                    "ImageDir": path.parent.name,
                    "StudyDate_DICOM": "20140915",
                    "StudyID": f"study{patient}",
                    "PatientID": PATIENT.format(patient),
                    "PatientBirth": "1930.0",
                    "PatientSex_DICOM": "F",
                    "Projection": projection,
                    "MethodLabel": "RNN_model",
                    "Labels": "['normal']",
                }
            )
            radiograph(path, (48, 40), seed=number, bits=16)


def write_csv(path: Path, lines: list[list[str]]) -> None:
    """Write the rows of a table."""
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows(lines)
