"""CheXpert: -1, 0, 1 and blanks, a patient without sex, paths that begin with the name of the archive."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.dataset.source_fixtures import Case

HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
COLUMNS = HEADER.split(",")[5:]

# patient, study, view, sex, age, cells that are not blank, findings (None: dropped)
ROWS = [
    (1, 1, "view1_frontal", "Female", "68", {"No Finding": "1.0", "Support Devices": "1.0"}),
    (2, 2, "view1_frontal", "Female", "87", {"Cardiomegaly": "-1.0", "Lung Opacity": "1.0", "Fracture": "1.0"}),
    (2, 1, "view1_frontal", "Female", "83", {"Lung Opacity": "1.0", "Consolidation": "-1.0"}),
    (2, 1, "view2_lateral", "Female", "83", {"Lung Opacity": "1.0", "Consolidation": "-1.0"}),
    (3, 1, "view1_frontal", "Male", "41", {"Edema": "1.0"}),
    (4, 1, "view1_frontal", "Unknown", "0", {"Pneumothorax": "0.0", "Pleural Effusion": "1.0"}),
    (5, 1, "view1_frontal", "Male", "90", {}),
    (6, 1, "view1_frontal", "Male", "33", {"Pneumothorax": "0.0"}),
    (7, 1, "view1_frontal", "Male", "20", {"Edema": "-1.0"}),
    (8, 1, "view1_frontal", "Male", "20", {"Pleural Other": "1.0"}),
    (9, 1, "view1_frontal", "Male", "20", {"Edema": "1.0"}),
    (10, 1, "view1_frontal", "Male", "20", {"Lung Lesion": "1.0"}),
]


def build(folder: Path) -> Case:
    """Twelve rows and two broken ones; one file is missing, one is cut off, one row comes twice."""
    archive = folder / "CheXpert-v1.0-small"
    archive.mkdir()
    lines, present, unknown = [HEADER], {}, {}
    for number, (patient, study, view, sex, age, cells) in enumerate(ROWS):
        image = f"train/patient{patient:05d}/study{study}/{view}.jpg"
        place = ["Frontal", "AP"] if "frontal" in view else ["Lateral", ""]
        values = [cells.get(column, "") for column in COLUMNS]
        lines.append(",".join([f"CheXpert-v1.0-small/{image}", sex, age, *place, *values]))
        present[image] = {column for column, cell in cells.items() if cell == "1.0"}
        unknown[image] = {column for column, cell in cells.items() if cell == "-1.0"}
        (archive / image).parent.mkdir(parents=True, exist_ok=True)
        picture = np.random.default_rng(number).integers(0, 255, (39, 32), dtype=np.uint8)
        Image.fromarray(picture).save(archive / image, "JPEG")
    lines.append(lines[1])
    lines.append("CheXpert-v1.0-small/train/study1/view1_frontal.jpg,Male,20,Frontal,AP" + "," * len(COLUMNS))
    (archive / "train.csv").write_text("\n".join([*lines, ""]))
    gone, short = "train/patient00009/study1/view1_frontal.jpg", "train/patient00010/study1/view1_frontal.jpg"
    (archive / gone).unlink()
    (archive / short).write_bytes((archive / short).read_bytes()[:300])
    return Case(
        root=folder,
        present=present,
        unknown=unknown,
        dropped={
            "train/patient00001/study1/view1_frontal.jpg": "more than once",
            "train/study1/view1_frontal.jpg": "no patient",
        },
        unusable={gone: "no such file", short: "cut off"},
        table="CheXpert-v1.0-small/train.csv",
        column="Pleural Other",
    )
