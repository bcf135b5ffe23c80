"""`trcgl doctor --recipe`: memory, disk, time and license before a training."""

import json
import re

import pytest

from tests.dataset.small_dataset import write_dataset
from trcgl.cli import main as cli
from trcgl.core.errors import RecipeError
from trcgl.core.recipe import overridden, to_json
from trcgl.doctor import recipe_check as module
from trcgl.doctor.recipe_check import as_text, check_recipe
from trcgl.doctor.trial import classifier_step, generator_step, images_per_second
from trcgl.recipes import GENERATORS, RECIPES

PHANTOM = RECIPES["phantom"]()
SMALL = {"model.backbone": "resnet10t", "model.image_size": 32, "train.batch_size": 4}


def on_a_gpu(monkeypatch, free):
    monkeypatch.setattr(module, "on_gpu", lambda accelerator: True)
    monkeypatch.setattr(module, "gpus", lambda: [{"name": "A card", "memory_free_gib": free}])


@pytest.mark.parametrize("name", ["padchest", "generator_sd15"])
def test_without_a_gpu_the_smallest_that_fits_is_named(name, capsys):
    assert cli.main(["doctor", "--recipe", name, "--no-trial", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    memory = report["memory"]
    smaller = [size for size in module.COMMON_GPUS if size * module.USABLE < memory["total_gib"]]
    assert memory["fits"] is None and memory["gpu"] is None
    assert memory["smallest_gpu_gb"] == next((size for size in module.COMMON_GPUS if size not in smaller), None)
    assert report["time"] is None
    assert report["kind"] == ("generator" if name.startswith("generator") else "classifier")


@pytest.mark.parametrize("name", [*RECIPES, *GENERATORS])
def test_a_recipe_fits_the_gpu_that_its_docstring_names(name):
    function = {**RECIPES, **GENERATORS}[name]
    said = " ".join((function.__doc__ or "").split())
    total = check_recipe(function(), trial=False)["memory"]["total_gib"]
    if gpu := re.search(r"one GPU with (\d+) GB", said):
        assert total <= int(gpu[1]) * 22 / 24
    for estimate in re.findall(r"an estimated ([\d.]+) GiB", said)[:1]:
        assert total == pytest.approx(float(estimate), abs=0.5)
    assert gpu or "CPU cores" in said or "any GPU" in said


def test_any_setting_is_an_option_and_changes_the_estimate(capsys):
    totals = []
    for batch in ("16", "64"):
        assert cli.main(["doctor", "--recipe", "nih", "--train.batch-size", batch, "--no-trial", "--json"]) == 0
        totals.append(json.loads(capsys.readouterr().out)["memory"]["activations_gib"])
    assert totals[1] / totals[0] == pytest.approx(4, rel=0.1)


def test_a_gpu_that_is_too_small_comes_with_options_that_fit(monkeypatch):
    on_a_gpu(monkeypatch, 24.0)
    recipe = overridden(RECIPES["mimic_cxr_lt"](), {"train.batch_size": 64, "train.accumulate": 1})
    report = check_recipe(recipe, trial=False)
    assert report["memory"]["fits"] is False
    assert report["advice"] == ["The training does not fit into 24 GiB: give --train.gradient-checkpointing."]
    assert "does not fit A card (24.0 GiB free)" in as_text(report)
    assert check_recipe(overridden(recipe, {"train.gradient_checkpointing": True}), trial=False)["memory"]["fits"]


def test_smaller_batches_are_proposed_where_checkpointing_is_on(monkeypatch):
    on_a_gpu(monkeypatch, 3.0)
    changes = {"train.gradient_checkpointing": True, "train.accumulate": 2}
    (advice,) = check_recipe(overridden(RECIPES["nih"](), changes), trial=False)["advice"]
    size = int(advice.partition("--train.batch-size ")[2].split()[0])
    steps = int(advice.partition("--train.accumulate ")[2].rstrip("."))
    assert size * steps == 2 * RECIPES["nih"]().train.batch_size
    assert check_recipe(overridden(RECIPES["nih"](), {**changes, "train.batch_size": size}), trial=False)["memory"][
        "fits"
    ]


def test_with_a_dataset_the_time_of_an_epoch_is_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "images_per_second", lambda step, most: 2.0)
    dataset = write_dataset(tmp_path / "dataset")
    report = check_recipe(overridden(PHANTOM, SMALL), dataset)
    assert (report["findings"], report["training_images"]) == (4, 44)
    assert report["time"] == {"device": "CPU", "images_per_second": 2.0, "minutes_per_epoch": 0.4, "hours": 0.03}
    assert "0.4 minutes per epoch, 2 minutes in all" in as_text(report)


def test_a_disk_that_is_too_small_is_named(monkeypatch):
    monkeypatch.setattr(module.machine, "disk", lambda folder: {"disk_free_gib": 0.01, "disk_writable": True})
    report = check_recipe(PHANTOM, trial=False)
    assert not report["disk"]["fits"]
    assert "0.01 GiB of disk are too few" in report["advice"][0]


def test_a_folder_that_cannot_be_written_is_named_whatever_is_free(monkeypatch, tmp_path):
    monkeypatch.setattr(module.machine, "disk", lambda folder: {"disk_free_gib": 900.0, "disk_writable": False})
    report = check_recipe(PHANTOM, None, tmp_path, trial=False)
    assert report["advice"] == [f"{tmp_path} cannot be written: choose another --folder."]


def test_a_training_that_fits_only_this_large_gpu_needs_no_advice(monkeypatch):
    on_a_gpu(monkeypatch, 1000.0)
    report = check_recipe(overridden(RECIPES["mimic_cxr_lt"](), {"train.batch_size": 400}), trial=False)
    assert report["memory"]["smallest_gpu_gb"] is None  # more than 80 GB
    assert report["memory"]["fits"] is True
    assert report["advice"] == []


def test_the_license_of_the_start_is_named():
    assert check_recipe(RECIPES["padchest"](), trial=False)["license"] == "cc-by-nc-4.0"
    assert check_recipe(PHANTOM, trial=False)["license"] == "none"


def test_wrong_settings_are_refused_before_anything_is_estimated():
    with pytest.raises(RecipeError, match="label_smoothing"):
        check_recipe(overridden(PHANTOM, {"loss.label_smoothing": 2.0}))


@pytest.mark.parametrize("kind", ["classifier", "generator"])
def test_a_stored_recipe_is_read_as_what_it_is(kind, tmp_path, capsys):
    recipe = {"classifier": PHANTOM, "generator": GENERATORS["generator_phantom"]()}[kind]
    stored = tmp_path / "recipe.json"
    stored.write_text(to_json(recipe), encoding="utf-8")
    assert cli.main(["doctor", "--recipe", str(stored), "--no-trial", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == kind


def test_a_trial_trains_with_larger_steps_until_its_time_is_over():
    sizes = []
    speed = images_per_second(sizes.append, 8, seconds=0.05)
    assert speed > 0
    assert sizes[:2] == [2, 2] and sizes[-1] == 8


@pytest.mark.parametrize("make", [
    lambda: classifier_step(overridden(PHANTOM, SMALL), 4),
    lambda: generator_step(overridden(GENERATORS["generator_phantom"](), {"image_size": 32}), 4),
], ids=["classifier", "generator"])  # fmt: skip
def test_a_step_of_a_trial_trains_on_this_machine(make):
    assert images_per_second(make(), 4, seconds=0.2) > 0
