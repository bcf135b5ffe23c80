"""PadChest: Python lists in strings, stray spaces, empty tokens, 39-digit patients, a study of two patients."""

import csv
from pathlib import Path

from tests.dataset.source_fixtures import Case, radiograph

HEADER = [
    "",
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "ViewPosition_DICOM",
    "Projection",
    "MethodProjection",
    "Pediatric",
    "Modality_DICOM",
    "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM",
    "PixelRepresentation_DICOM",
    "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM",
    "BitsStored_DICOM",
    "WindowCenter_DICOM",
    "WindowWidth_DICOM",
    "Rows_DICOM",
    "Columns_DICOM",
    "XRayTubeCurrent_DICOM",
    "Exposure_DICOM",
    "ExposureInuAs_DICOM",
    "ExposureTime",
    "RelativeXRayExposure_DICOM",
    "ReportID",
    "Report",
    "MethodLabel",
    "Labels",
    "Localizations",
    "LabelsLocalizationsBySentence",
    "labelCUIS",
    "LocalizationsCUIS",
]
PATIENT = "8398604886942923316379881856814609{:05d}"

# image, patient, projection, method, labels, findings (None: dropped)
ROWS = [
    ("a0", 1, "PA", "Physician", "['normal']", {"Normal"}),
    ("a1", 1, "L", "Physician", "['normal']", {"Normal"}),
    ("b0", 2, "PA", "RNN_model", "['cardiomegaly', ' pleural effusion']", {"cardiomegaly", "pleural effusion"}),
    ("c0", 3, "AP_horizontal", "RNN_model", "['pseudonodule', '']", set()),
    ("d0", 4, "PA", "Physician", "['NSG tube', 'NSG tube']", {"Support Devices"}),
    (
        "e0",
        5,
        "AP",
        "RNN_model",
        "['central venous catheter via jugular vein']",
        {"Support Devices", "central venous catheter"},
    ),
    ("f0", 6, "COSTAL", "RNN_model", "['hydropneumothorax', 'unchanged']", {"Hydropneumothorax"}),
    ("g0", 7, "UNK", "RNN_model", "['abnormal foreign body']", set()),
    ("h0", 8, "EXCLUDE", "RNN_model", "['normal', ' kyphosis']", {"Normal", "Kyphosis"}),
    ("i0", 9, "PA", "RNN_model", "['rib fracture']", {"fracture"}),
    ("j0", 10, "PA", "Physician", "nan", None),
    ("k0", 11, "PA", "Physician", "['', '']", None),
    ("l0", 12, "PA", "Physician", "['exclude']", None),
    ("m0", 13, "PA", "RNN_model", "['unchanged', ' suboptimal study']", None),
    ("a0", 1, "PA", "Physician", "['normal']", None),
    ("n0", 9, "PA", "RNN_model", "['nodule']", {"Nodule"}),
    ("o0", 2, "PA", "RNN_model", "['mass']", {"Mass"}),
]


def build(folder: Path) -> Case:
    """Seventeen rows as in the archive; one image is missing and one is cut short."""
    with open(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "w", newline="") as handle:
        table = csv.DictWriter(handle, HEADER, restval="None")
        table.writeheader()
        for number, (image, patient, projection, method, labels, _) in enumerate(ROWS):
            table.writerow(
                {
                    "": number,
                    "ImageID": f"{image}.png",
                    "ImageDir": patient % 3,
                    "StudyDate_DICOM": "20140915",
                    "StudyID": "S-shared" if image in ("b0", "c0") else f"study{patient}",
                    "PatientID": PATIENT.format(patient),
                    "PatientBirth": "" if image == "d0" else "1930.0",
                    "PatientSex_DICOM": "O" if image == "e0" else "F",
                    "Projection": projection,
                    "MethodLabel": method,
                    "Labels": labels,
                }
            )
            radiograph(folder / str(patient % 3) / f"{image}.png", (48, 40), seed=number, bits=16)
    (folder / "0" / "n0.png").unlink()
    whole = (folder / "2" / "o0.png").read_bytes()
    (folder / "2" / "o0.png").write_bytes(whole[: len(whole) // 2])
    return Case(
        root=folder,
        present={f"{image}.png": found for image, _, _, _, _, found in ROWS if found is not None},
        dropped={
            "j0.png": "no labels",
            "k0.png": "empty labels",
            "l0.png": "exclude",
            "m0.png": "unknown",
            "a0.png": "more than once",
        },
        unusable={"n0.png": "no such file", "o0.png": ""},
        table="PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
        column="PatientID",
    )
