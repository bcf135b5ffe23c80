"""Runs with an untrained model, finished as far as the verb under test can tell, and DICOM studies to score."""

import dataclasses
import os

import numpy as np
import torch

from tests.dataset.small_dataset import SPACE, small_recipe, write_dataset
from tests.imaging.dicom_files import dicom
from trcgl.core import storage
from trcgl.core.recipe import EvaluateRecipe, ModelRecipe, Recipe, to_json
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.ensemble import evaluate_ensemble
from trcgl.evaluate.evaluation import evaluate
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics.calibrate import calibrated
from trcgl.model.folder import save_model, update_calibration
from trcgl.model.trcgl_net import TrcglNet

THRESHOLDS = dict(zip(SPACE.findings, (0.4, 0.5, 0.6, 0.7), strict=True))
TEMPERATURE = 1.5
SPLITS = {
    "train": {"images": 44, "patients": 22},
    "val": {"images": 24, "patients": 12},
    "test": {"images": 24, "patients": 12},
}
PATIENT = {"PatientID": "MRN-4711", "PatientName": "Noether^Amalie", "PatientBirthDate": "18820323", "PatientSex": "F"}


def write_model(
    folder,
    recipe: Recipe | None = None,
    space: LabelSpace = SPACE,
    *,
    side=None,
    stored_size=None,
    source="table",
    fit="letterbox",
    license="none",
    vectors=None,
    seed=0,
):
    """A model folder; wide random weights of the head make scores differ between images and findings."""
    recipe = recipe or small_recipe()
    size = side or recipe.model.image_size
    graph = torch.full((len(space.findings),) * 2, 0.1).fill_diagonal_(0.8)
    torch.manual_seed(seed)
    network = TrcglNet(recipe.model, len(space.findings), graph, load_weights=False).eval()
    with torch.no_grad():
        for name, parameter in network.head.named_parameters():
            if "classifier" in name:
                parameter.normal_(std=0.3)
    save_model(
        folder,
        network,
        recipe=recipe,
        space=space,
        preprocessing={"image_size": size, "fit": fit, "stored_size": stored_size or size},
        adjacency=graph,
        training_patient_digest="0" * 64,
        license=license,
        source=source,
        vectors=vectors,
    )
    return folder


def write_run(folder, *, thresholds=THRESHOLDS, temperature=TEMPERATURE, **settings):
    """A run as `predict` reads it: a calibrated model, without its dataset."""
    write_model(folder / "model", **settings)
    if thresholds:
        update_calibration(folder / "model", thresholds, temperature)
    return folder


def write_run_beside(dataset, folder, **model):
    """A run as `evaluate` and `explain` read it: trained on a dataset, not calibrated yet."""
    recipe = small_recipe()
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, patch_size=1, **model),
        evaluate=EvaluateRecipe(replicates=120),
    )
    write_model(folder / "model", recipe)
    storage.write_text(folder / "recipe.json", to_json(recipe))
    storage.write_json(folder / "run.json", _study(dataset, folder))
    return folder


def write_evaluated_run(folder, recipe: Recipe | None = None, **settings):
    """A run as an export reads it: calibrated and evaluated, beside a dataset of its own."""
    dataset = write_dataset(folder.parent / f"{folder.name}-data")
    write_run(folder, recipe=recipe, **settings)
    _describe(dataset)
    storage.write_json(folder / "run.json", _study(dataset, folder))
    storage.write_json(folder / "evaluation" / "test.json", _evaluation(dataset))
    return folder


def write_evaluated_ensemble(folder, **settings):
    """An ensemble folder of two runs, beside them and their dataset, whose studies have two images."""
    dataset = write_dataset(folder / "data", images_per_study=2)
    _describe(dataset)
    runs = [write_run_beside(dataset, folder / head, head=head) for head in ("trcgl", "linear")]
    evaluate_ensemble(runs, folder / "ensemble", **settings)
    return folder / "ensemble"


def with_backbone(backbone: str, head: str, **settings) -> Recipe:
    """A recipe of 32-pixel images and narrow heads."""
    return Recipe(model=ModelRecipe(backbone=backbone, head=head, image_size=32, label_embedding=16, **settings))


def study_file(image, study, *, seed=0, shape=(40, 36), **elements):
    """A DICOM radiograph of `PATIENT`: UIDs are `1.2.<study>` and `1.2.<study>.1.<image>`."""
    pixels = np.random.default_rng(seed + image).integers(0, 4096, shape, dtype=np.uint16)
    uids = {
        "StudyInstanceUID": f"1.2.{study}",
        "SeriesInstanceUID": f"1.2.{study}.1",
        "SOPInstanceUID": f"1.2.{study}.1.{image}",
    }
    header = {"StudyDate": "20260102", "AccessionNumber": "ACC-99", "StudyDescription": "Thorax pa"}
    return dicom(pixels, **{**PATIENT, **uids, **header, **elements})


def _describe(dataset):
    described = {"splits": SPLITS, "counts": {"images": 92}, "license": "nobody's", "notes": ["Bars, not bones."]}
    storage.write_json(dataset / "dataset.json", {**storage.read_json(dataset / "dataset.json"), **described})


def _study(dataset, folder):
    return {
        "schema": "trcgl.run/1",
        "finished": True,
        "dataset": os.path.relpath(dataset, folder),
        "dataset_digest": storage.sha256_file(dataset / "dataset.json"),
        "best": {"epoch": 2, "val/mAP": 0.25},
    }


def _evaluation(dataset):
    opened = open_dataset(dataset)
    rows = opened.split("test")
    logit = np.random.default_rng(0).normal(size=(rows.height, len(SPACE.findings))).astype(np.float32)
    predictions = Predictions.from_manifest(rows, SPACE, logit=logit, score=calibrated(logit, TEMPERATURE))
    return evaluate(predictions, THRESHOLDS, split="test", replicates=300)
