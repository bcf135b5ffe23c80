"""A run folder with an untrained, calibrated model, and DICOM studies to score with it."""

import numpy as np
import torch

from tests.data.dicom_files import dicom
from tests.model.small_dataset import SPACE, small_recipe
from trcgl.model.folder import save_model, update_calibration
from trcgl.model.trcgl_net import build_network

THRESHOLDS = dict(zip(SPACE.findings, (0.4, 0.5, 0.6, 0.7), strict=True))
PATIENT = {"PatientID": "MRN-4711", "PatientName": "Noether^Amalie", "PatientBirthDate": "18820323", "PatientSex": "F"}


def write_run(folder, *, seed=0, space=SPACE, side=32, fit="letterbox", thresholds=THRESHOLDS, temperature=1.5):
    """Returns the folder. Head weights are drawn wide, so that scores differ between images."""
    recipe, graph = small_recipe(), torch.eye(len(space.findings))
    torch.manual_seed(seed)
    network = build_network(recipe.model, len(space.findings), graph).eval()
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.mul_(5)
    save_model(
        folder / "model",
        network,
        recipe=recipe,
        space=space,
        preprocessing={"image_size": side, "fit": fit},
        adjacency=graph,
        training_patient_digest="0",
        license="none",
    )
    if thresholds:
        update_calibration(folder / "model", thresholds, temperature)
    return folder


def study_file(image, study, *, seed=0, **elements):
    """A DICOM radiograph of `PATIENT`: UIDs are `1.2.<study>` and `1.2.<study>.1.<image>`."""
    pixels = np.random.default_rng(seed + image).integers(0, 4096, (40, 36), dtype=np.uint16)
    uids = {
        "StudyInstanceUID": f"1.2.{study}",
        "SeriesInstanceUID": f"1.2.{study}.1",
        "SOPInstanceUID": f"1.2.{study}.1.{image}",
    }
    told = {"StudyDate": "20260102", "AccessionNumber": "ACC-99", "StudyDescription": "Thorax pa"}
    return dicom(pixels, **{**PATIENT, **uids, **told, **elements})
