"""A run folder with an untrained, calibrated model and an evaluation, beside its dataset; made in a second."""

import numpy as np
import torch

from tests.model.small_dataset import SPACE, small_recipe, write_dataset
from trcgl.core import run
from trcgl.core.recipe import ModelRecipe, Recipe
from trcgl.data.labels import LabelSpace
from trcgl.data.store import open_dataset
from trcgl.evaluate.calibrate import calibrated
from trcgl.evaluate.judge import judge
from trcgl.evaluate.predictions import Predictions
from trcgl.model.folder import save_model, update_calibration
from trcgl.model.trcgl_net import build_network

THRESHOLDS = dict(zip(SPACE.findings, (0.4, 0.5, 0.6, 0.7), strict=True))
TEMPERATURE = 1.5
SPLITS = {
    "train": {"images": 44, "patients": 22},
    "val": {"images": 24, "patients": 12},
    "test": {"images": 24, "patients": 12},
}


def write_model(folder, recipe: Recipe, space: LabelSpace = SPACE, *, fit="letterbox", license="none", seed=0):
    """An untrained model whose logits differ from image to image and from finding to finding."""
    torch.manual_seed(seed)
    graph = torch.full((len(space.findings),) * 2, 0.1).fill_diagonal_(0.8)
    network = build_network(recipe.model, len(space.findings), graph, load_weights=False)
    with torch.no_grad():
        for name, parameter in network.head.named_parameters():
            if "classifier" in name:
                parameter.normal_(std=0.3)
    save_model(
        folder,
        network.eval(),
        recipe=recipe,
        space=space,
        preprocessing={"image_size": recipe.model.image_size, "fit": fit},
        adjacency=graph,
        training_patient_digest="0" * 64,
        license=license,
    )
    return folder


def write_run(folder, recipe: Recipe | None = None, **settings):
    """What `trcgl train` and `trcgl evaluate` leave behind, as far as an export reads it."""
    dataset = write_dataset(folder.parent / f"{folder.name}-data")
    write_model(folder / "model", recipe or small_recipe(), **settings)
    update_calibration(folder / "model", THRESHOLDS, TEMPERATURE)
    described = {"splits": SPLITS, "counts": {"images": 92}, "license": "nobody's", "notes": ["Bars, not bones."]}
    run.write_json(dataset / "dataset.json", {**run.read_json(dataset / "dataset.json"), **described})
    told = {
        "schema": "trcgl.run/1",
        "dataset": f"../{dataset.name}",
        "dataset_digest": run.sha256_file(dataset / "dataset.json"),
        "best": {"epoch": 2, "val/mAP": 0.25},
    }
    run.write_json(folder / "run.json", told)
    run.write_json(folder / "evaluation" / "test.json", _evaluation(dataset))
    return folder


def with_backbone(backbone: str, head: str, **settings) -> Recipe:
    """A recipe of 32-pixel images and narrow heads."""
    return Recipe(model=ModelRecipe(backbone=backbone, head=head, image_size=32, label_embedding=16, **settings))


def _evaluation(dataset):
    opened = open_dataset(dataset)
    rows = opened.split("test")
    logit = np.random.default_rng(0).normal(size=(rows.height, len(SPACE.findings))).astype(np.float32)
    predictions = Predictions.from_manifest(rows, SPACE, logit=logit, score=calibrated(logit, TEMPERATURE))
    return judge(predictions, SPACE, THRESHOLDS, split="test", replicates=300)
