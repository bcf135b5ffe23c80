"""A run folder with an untrained model, finished as far as `evaluate` and `explain` can tell."""

import dataclasses
import os

import torch

from tests.model.small_dataset import SPACE, small_recipe
from trcgl.core import run
from trcgl.core.recipe import EvaluateRecipe, to_json
from trcgl.model.folder import save_model
from trcgl.model.trcgl_net import build_network


def write_run(folder, dataset, **model):
    """Write it beside its dataset; returns the folder."""
    recipe = small_recipe()
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, patch_size=1, **model),
        evaluate=EvaluateRecipe(replicates=120),
    )
    torch.manual_seed(0)
    save_model(
        folder / "model",
        build_network(recipe.model, 4, torch.eye(4)).eval(),
        recipe=recipe,
        space=SPACE,
        preprocessing={"image_size": 32, "fit": "letterbox"},
        adjacency=torch.eye(4),
        training_patient_digest="0",
        license="none",
    )
    run.write_text(folder / "recipe.json", to_json(recipe))
    told = {
        "finished": True,
        "dataset": os.path.relpath(dataset, folder),
        "dataset_digest": run.sha256_file(dataset / "dataset.json"),
    }
    run.write_json(folder / "run.json", told)
    return folder
