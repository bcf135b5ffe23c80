"""Training with synthetic images: schedules, doses, unknown labels, and the record in the run."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.dataset.small_dataset import small_recipe, write_dataset
from tests.dataset.small_synthetic import write_synthetic
from tests.training.test_resume import same, stop_at
from trcgl.cli.main import main
from trcgl.core.errors import DataError, Interrupted, RecipeError
from trcgl.core.recipe import SyntheticRecipe, to_json
from trcgl.core.storage import read_json, sha256_file
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import open_synthetic
from trcgl.generate.inputs import open_screener
from trcgl.model.folder import load_model
from trcgl.training import batches as datamodule
from trcgl.training import classifier as classifier_module
from trcgl.training.classifier import Classifier
from trcgl.training.losses import LOSSES
from trcgl.training.train import train

REAL, STEPS = 44, 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="module")
def generated(dataset, tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("generated") / "generated", dataset, rejected=(1, 9))


@pytest.fixture(scope="module")
def real_only(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "run"
    train(dataset, recipe_with(), out)
    return out


def recipe_with(train_settings=None, **synthetic):
    recipe = small_recipe(**{"epochs": 2, **(train_settings or {})})
    return dataclasses.replace(recipe, synthetic=SyntheticRecipe(**synthetic))


def weights_of(out):
    return (out / "model" / "model.safetensors").read_bytes()


def log_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def shown(monkeypatch):
    """Rows of every batch that was trained on."""
    batches, step = [], Classifier.training_step

    def training_step(self, batch, batch_idx):
        batches.append(batch["row"][batch["real"]].tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", training_step)
    return batches


@pytest.mark.parametrize(
    "settings", [{"weight": 0.0}, {"dose": 0.0}, {"warmup": 2}, {"dose": 0.0, "schedule": "pretrain"}]
)
def test_synthetic_rows_of_weight_0_leave_the_trained_weights_unchanged(
    dataset, generated, real_only, tmp_path, settings
):
    train(dataset, recipe_with(**settings), tmp_path / "run", generated)
    assert weights_of(tmp_path / "run") == weights_of(real_only)


def test_synthetic_rows_change_the_trained_weights(dataset, generated, real_only, tmp_path):
    train(dataset, recipe_with(), tmp_path / "run", generated)
    assert weights_of(tmp_path / "run") != weights_of(real_only)


@pytest.mark.parametrize("schedule", ["mix", "pretrain"])
@pytest.mark.parametrize("sampler", ["natural", "repeat_factor", "class_balanced"])
def test_a_run_with_synthetic_rows_has_as_many_steps_of_as_many_images(
    dataset, generated, tmp_path, shown, schedule, sampler
):
    info = train(dataset, recipe_with({"row_sampling": sampler}, schedule=schedule), tmp_path / "run", generated)
    assert info["steps"] == 2 * STEPS
    assert [sum(map(len, shown[start : start + STEPS])) for start in (0, STEPS)] == [REAL, REAL]


def test_a_warmup_of_the_head_shows_real_rows_alone(dataset, generated, tmp_path, shown):
    train(dataset, recipe_with({"head_warmup_epochs": 1}), tmp_path / "run", generated)
    first, second = (np.concatenate(shown[start : start + STEPS]) for start in (0, STEPS))
    assert sorted(first) == list(range(REAL))
    assert 5 <= (second >= REAL).sum() <= 16  # 14 of 58 rows: 10.6 of 44 places are expected


def test_pretraining_shows_synthetic_rows_alone_and_then_real_rows_alone(dataset, generated, tmp_path, shown):
    info = train(dataset, recipe_with({"epochs": 3}, schedule="pretrain"), tmp_path / "run", generated)
    epochs = [np.concatenate(shown[start : start + STEPS]) for start in range(0, 3 * STEPS, STEPS)]
    assert sorted(set(epochs[0])) == list(range(REAL, REAL + 14))
    assert np.bincount(epochs[0] - REAL).max() - np.bincount(epochs[0] - REAL).min() <= 1
    assert sorted(epochs[1]) == sorted(epochs[2]) == list(range(REAL))
    assert info["best"]["epoch"] > 1


def test_pretraining_does_not_stop_training_early(dataset, generated, tmp_path, monkeypatch):
    monkeypatch.setattr("trcgl.training.classifier.validation_metrics", lambda *_: {"val/mAP": 0.5})
    recipe = recipe_with({"epochs": 8, "patience": 1}, schedule="pretrain", pretrain_share=0.5)
    info = train(dataset, recipe, tmp_path / "run", generated)
    assert info["best"]["epoch"] == 5 and info["steps"] == 6 * STEPS


def test_a_pool_shows_synthetic_rows_as_often_as_real_ones_and_with_weight_0_at_first(
    dataset, generated, tmp_path, shown, monkeypatch
):
    weights = []
    mean = classifier_module.masked_mean
    monkeypatch.setattr(classifier_module, "masked_mean", lambda *values: weights.append(values[2]) or mean(*values))
    recipe = recipe_with({"head_warmup_epochs": 1}, schedule="pool")
    info = train(dataset, recipe, tmp_path / "run", generated)
    batches = -(-(REAL + 14) // 8)
    assert info["steps"] == 2 * batches
    for epoch, weight in ((0, 0.0), (1, 0.5)):
        of_epoch = slice(epoch * batches, (epoch + 1) * batches)
        rows = np.concatenate(shown[of_epoch])
        assert sorted(rows) == list(range(REAL + 14))
        assert np.array_equal(np.concatenate(weights[of_epoch]), np.where(rows < REAL, 1.0, weight))


@pytest.mark.parametrize("unrequested", ["unknown", "absent"])
def test_a_pool_counts_synthetic_rows(dataset, generated, unrequested):
    opened = open_dataset(dataset)
    recipe = recipe_with(schedule="pool", unrequested=unrequested)
    data = datamodule.RadiographData(opened, recipe, open_synthetic(generated, opened))
    labels = data.counted_rows.labels
    assert len(labels) == REAL + 14 == data.epoch_rows
    assert np.isnan(labels[REAL:]).any() == (unrequested == "unknown")
    assert np.isnan(labels[:REAL]).any()


def test_a_whole_epoch_of_repeats_is_mixed_with_synthetic_rows(dataset, generated, tmp_path, shown):
    settings = {"row_sampling": "repeat_factor", "repeat_threshold": 1.0, "repeat_epoch": "whole"}
    train(dataset, recipe_with({"epochs": 1, **settings}), tmp_path / "run", generated)
    rows = np.concatenate(shown)
    assert len(rows) > REAL and len(rows) % 8 == 0 and REAL <= rows.max() < REAL + 14


def test_labels_not_requested_are_unknown_and_a_synthetic_row_weighs_half(dataset, generated, tmp_path, monkeypatch):
    """The loss of every step is the weighted mean over known labels, computed here by hand."""
    seen, step = [], Classifier.training_step

    def training_step(self, batch, batch_idx):
        network, outputs = self.network.forward, []
        monkeypatch.setattr(self.network, "forward", lambda image: outputs.append(network(image)) or outputs[-1])
        loss = step(self, batch, batch_idx)
        monkeypatch.setattr(self.network, "forward", network)
        seen.append((batch["label"], batch["row"], outputs[-1].logits.detach(), float(loss.detach())))
        return loss

    monkeypatch.setattr(Classifier, "training_step", training_step)
    train(dataset, recipe_with({"epochs": 1}, weight=0.5), tmp_path / "run", generated)
    rows = open_synthetic(generated, open_dataset(dataset)).rows
    mixed = 0
    for label, row, logits, loss in seen:
        known = ~label.isnan()
        elementwise = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, torch.where(known, label, 0.0), reduction="none"
        )
        weight = known * torch.where(row < REAL, 1.0, 0.5)[:, None]
        assert loss == pytest.approx(float((elementwise * weight).sum() / weight.sum()), rel=1e-5)
        for place in (row >= REAL).nonzero().flatten().tolist():
            stored = rows.row(int(row[place]) - REAL, named=True)
            asked = [stored[finding] for finding in ("Mass", "Edema", "Hernia", "Normal")]
            assert [None if value != value else value for value in label[place].tolist()] == asked
            mixed += 1
    assert mixed > 3


def test_counts_are_those_of_real_rows_alone(dataset, generated, real_only, tmp_path, monkeypatch):
    counted = []

    class CountingLoss(LOSSES["bce"]):
        def __init__(self, settings, positives, rows):
            counted.append((positives.tolist(), rows.tolist()))
            super().__init__(settings, positives, rows)

    monkeypatch.setitem(LOSSES, "bce", CountingLoss)
    train(dataset, recipe_with({"epochs": 1}), tmp_path / "other", generated)
    real = open_dataset(dataset).split("train")
    findings = ("Mass", "Edema", "Hernia", "Normal")
    known = [int(real[finding].is_not_null().sum()) for finding in findings]
    assert counted == [([int((real[finding] == 1).sum()) for finding in findings], known)] and max(known) <= REAL
    before, after = (load_model(out / "model") for out in (real_only, tmp_path / "other"))
    assert torch.equal(before.adjacency, after.adjacency)
    assert before.info["training_patient_digest"] == after.info["training_patient_digest"]


def test_the_run_records_its_synthetic_images(dataset, generated, tmp_path, capsys):
    info = train(dataset, recipe_with(dose=0.5), tmp_path / "run", generated)
    counts = open_synthetic(generated, open_dataset(dataset), 0.5).counts(open_dataset(dataset).split("train"))
    synthetic = read_json(tmp_path / "run" / "run.json")["synthetic"]
    assert synthetic == info["synthetic"]
    assert synthetic["digest"] == sha256_file(generated / "dataset.json")
    assert (tmp_path / "run" / synthetic["folder"]).resolve() == generated
    assert synthetic["findings"] == counts
    assert read_json(tmp_path / "run" / "model" / "model.json")["synthetic"]["digest"] == synthetic["digest"]
    (logged,) = [line for line in log_of(tmp_path / "run") if line["step"] == 0]
    assert logged["rows/Hernia/real"] == counts["Hernia"]["real"]
    assert logged["rows/Hernia/synthetic_for"] == counts["Hernia"]["synthetic_for"] > 0
    assert (
        f"Hernia: {counts['Hernia']['real']} real, {counts['Hernia']['synthetic_for']} synthetic images of it"
        in capsys.readouterr().err
    )


def test_a_run_with_synthetic_images_may_not_screen(dataset, generated, tmp_path):
    train(dataset, recipe_with({"epochs": 1}), tmp_path / "run", generated)
    with pytest.raises(DataError, match="was trained with synthetic images"):
        open_screener(tmp_path / "run", open_dataset(dataset))


@pytest.mark.parametrize("schedule", ["mix", "pretrain"])
def test_a_stopped_run_with_synthetic_rows_ends_with_the_same_weights(
    dataset, generated, tmp_path, monkeypatch, schedule
):
    recipe = recipe_with({"save_steps": 2, "row_sampling": "repeat_factor"}, schedule=schedule)
    recipe = dataclasses.replace(recipe, augment=dataclasses.replace(recipe.augment, mixup=0.4))
    train(dataset, recipe, tmp_path / "whole", generated)
    for batch in (0, 3, 8):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            stop_at(patch, batch)
            train(dataset, recipe, tmp_path / "stopped", generated)
    train(dataset, recipe, tmp_path / "stopped", generated)
    assert same(tmp_path / "whole", tmp_path / "stopped")


def test_mixup_does_not_mix_real_with_synthetic_images(dataset, generated, tmp_path, monkeypatch):
    kinds, mixup = [], datamodule.mixup
    after = datamodule.RadiographData.on_after_batch_transfer

    def spy(self, batch, index):
        def checked(image, label, other, shares):
            kinds.append((batch["row"] >= REAL, (batch["row"] >= REAL)[other]))
            return mixup(image, label, other, shares)

        monkeypatch.setattr(datamodule, "mixup", checked)
        return after(self, batch, index)

    monkeypatch.setattr(datamodule.RadiographData, "on_after_batch_transfer", spy)
    recipe = recipe_with({"batch_size": 9})
    train(
        dataset,
        dataclasses.replace(recipe, augment=dataclasses.replace(recipe.augment, mixup=0.4)),
        tmp_path / "run",
        generated,
    )
    assert sum(int(own.sum()) for own, _ in kinds) > 5
    assert all(torch.equal(own, other) for own, other in kinds)


@pytest.mark.parametrize(
    ("train_settings", "synthetic", "message"),
    [
        ({"half": "first"}, {}, "train.half is first.*trained on both halves"),
        ({"epochs": 1}, {"schedule": "pretrain"}, "train.epochs of at least 2"),
        ({"retrain_epochs": 1}, {"schedule": "pretrain"}, "train.retrain_epochs is 1.*no epoch of real images"),
        ({}, {"weight": -0.5}, "synthetic.weight"),
        ({}, {"warmup": 3}, "synthetic.warmup"),
        ({}, {"pretrain_share": 1.0}, "synthetic.pretrain_share"),
        ({}, {"dose": -1.0}, "synthetic.dose"),
    ],
)
def test_settings_that_contradict_are_refused_before_anything_is_written(
    dataset, generated, tmp_path, train_settings, synthetic, message
):
    with pytest.raises(RecipeError, match=message):
        train(dataset, recipe_with(train_settings, **synthetic), tmp_path / "run", generated)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_with_other_synthetic_images(dataset, generated, real_only, tmp_path):
    with pytest.raises(RecipeError, match="trained with real images alone, not with this --synthetic"):
        train(dataset, recipe_with(), real_only, generated)
    train(dataset, recipe_with({"epochs": 1}), tmp_path / "run", generated)
    with pytest.raises(RecipeError, match="trained with the synthetic images of .*generated, not with this"):
        train(dataset, recipe_with({"epochs": 1}), tmp_path / "run")


def test_the_command_line_takes_a_synthetic_folder(dataset, generated, tmp_path, capsys):
    (tmp_path / "recipe.json").write_text(to_json(recipe_with({"epochs": 1})))
    given = ["train", str(dataset), "--recipe", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "run")]
    assert main([*given, "--synthetic", str(generated), "--synthetic.weight", "0.25", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["synthetic"]["rows"] == 14
    assert read_json(tmp_path / "run" / "recipe.json")["synthetic"]["weight"] == 0.25
