"""CXR-LT 2023: three tables, a view that is null and one in words, files in MIMIC-CXR-JPG's tree."""

from pathlib import Path

from tests.dataset.source_fixtures import Case, radiograph
from trcgl.dataset.sources.mimic_cxr_lt import FINDINGS_2023

HEADER = ["dicom_id", "subject_id", "study_id", "ViewPosition", "ViewCodeSequence_CodeMeaning", "path", *FINDINGS_2023]
DICOM = "965b6053-a2c70d67-c0467ca6-02372346-4c7c{:04d}"

# number, patient, study, view, findings
TABLES = {
    "train.csv": [
        (1, 10000032, 50414267, "PA", {"No Finding"}),
        (2, 10000032, 50414267, "LATERAL", {"No Finding"}),
        (3, 10000764, 57375967, "AP", {"Lung Opacity", "Pneumonia"}),
        (4, 10000898, 50771383, "LL", {"Hernia"}),
        (5, 10000935, 50578979, "", {"Edema", "Support Devices"}),
        (6, 10000980, 50985099, "SWIMMERS", set()),
        (6, 10000980, 50985099, "SWIMMERS", set()),
    ],
    "development.csv": [
        (7, 11001217, 58913004, "PA", {"Pneumoperitoneum"}),
        (8, 11001401, 51065211, "AP", {"Tortuous Aorta"}),
        (9, 11001535, 50798377, "AP", {"Mass"}),
    ],
    "test.csv": [
        (10, 12001617, 58157887, "PA", {"Fracture"}),
        (11, 12001884, 50205251, "PA", {"Nodule"}),
        (12, 12002131, 52823782, "AP", {"Fibrosis"}),
    ],
}
SPLITS = {"train.csv": "train", "development.csv": "val", "test.csv": "test"}


def build(folder: Path) -> Case:
    """Thirteen rows in three tables below the images; one image is missing, one is empty, one row comes twice."""
    labels = folder / "cxr-lt" / "cxr-lt-2023"
    labels.mkdir(parents=True)
    present, official = {}, {}
    for name, rows in TABLES.items():
        lines = [",".join(HEADER)]
        for number, patient, study, view, found in rows:
            image = DICOM.format(number)
            path = f"files/p{str(patient)[:2]}/p{patient}/s{study}/{image}.jpg"
            cells = ["1" if finding in found else "0" for finding in FINDINGS_2023]
            lines.append(",".join([image, str(patient), str(study), view, "postero-anterior", path, *cells]))
            present[image], official[image] = found, SPLITS[name]
            if number != 3:
                radiograph((folder / path).with_suffix(".png"), (40, 33), seed=number)
                (folder / path).with_suffix(".png").rename(folder / path)
        (labels / name).write_text("\n".join([*lines, ""]))
    next(folder.glob(f"files/*/*/*/{DICOM.format(9)}.jpg")).write_bytes(b"")
    return Case(
        root=folder,
        present=present,
        dropped={DICOM.format(6): "more than once"},
        unusable={DICOM.format(3): "no such file", DICOM.format(9): "empty"},
        table="cxr-lt/cxr-lt-2023/train.csv",
        column="subject_id",
        official=official,
    )
