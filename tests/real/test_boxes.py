"""Maps of a network held against the boxes that NIH's readers drew."""

import dataclasses

import polars as pl
import pytest

from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.evaluate import evaluate_run
from trcgl.recipes import RECIPES
from trcgl.training.train import train

BOXED = {"Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"}


@pytest.mark.slow
def test_evaluate_scores_both_kinds_of_maps_on_every_boxed_finding(real_data, shared_weights, tmp_path):
    dataset = tmp_path / "nih"
    prepare("nih", real_data / "nih-mini", dataset, PrepareOptions(size=64))
    recipe = RECIPES["nih_mini"]()
    weights = str(shared_weights / "efficientnet_lite0_imagenet.safetensors")
    model = dataclasses.replace(recipe.model, image_size=64, weights=weights, output_stride=16, attention_gate=1.0)
    short = dataclasses.replace(recipe.train, epochs=1)
    train(dataset, dataclasses.replace(recipe, model=model, train=short), tmp_path / "run")
    localization = evaluate_run(tmp_path / "run", split="test")["localization"]
    assert localization["kinds"] == ["attention", "grad_cam"] and localization["regions"] == "boxes"
    opened = open_dataset(dataset)
    boxes = opened.boxes.join(opened.split("test"), on="image_id")
    assert set(localization["findings"]) == BOXED == set(boxes["finding"])
    assert localization["boxes"] == boxes.height and localization["patients"] == boxes["patient_id"].n_unique()
    for finding, values in localization["findings"].items():
        assert values["images"] == boxes.filter(pl.col("finding") == finding)["image_id"].n_unique()
        for kind in localization["kinds"]:
            low, high = values[kind]["energy"]["ci"]
            assert 0 <= low < values[kind]["energy"]["value"] < high <= 1
    heart = localization["findings"]["Cardiomegaly"]
    # Where a heart lies, a Gaussian at the middle of the picture knows; shuffled cells do not.
    assert heart["grad_cam"]["energy"]["against"]["centered_gaussian"]["value"] > 1.2 * heart["area"]
    assert heart["grad_cam"]["energy"]["against"]["random"]["value"] == pytest.approx(heart["area"], abs=0.1)
