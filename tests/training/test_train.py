import dataclasses
import json
import socket
import time
from itertools import pairwise

import polars as pl
import pytest
import torch

from tests.dataset.small_dataset import small_recipe, write_dataset
from tests.training import processes
from trcgl.core.errors import CheckpointError, DataError, Diverged, RecipeError
from trcgl.core.recipe import LossRecipe
from trcgl.core.storage import read_json, write_json
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.store import open_dataset
from trcgl.model.folder import load_model
from trcgl.model.label_graph import ml_gcn_adjacency
from trcgl.training import batches as datamodule
from trcgl.training.classifier import Classifier
from trcgl.training.losses import LOSSES
from trcgl.training.train import train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


def weights_of(out):
    return (out / "model" / "model.safetensors").read_bytes()


def with_model(recipe, **settings):
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **settings))


def log_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_training_learns_what_was_planted(dataset, tmp_path):
    info = train(dataset, small_recipe(epochs=4), tmp_path / "run")
    assert info["best"]["val/mAP"] > 0.9
    best = max(line["val/mAP"] for line in log_of(tmp_path / "run") if "val/mAP" in line)
    assert info["best"]["val/mAP"] == best
    assert {"recipe.json", "environment.json", "metrics.jsonl", "checkpoints", "model"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_the_model_folder_holds_the_average_of_the_best_epoch(dataset, tmp_path):
    train(dataset, small_recipe(epochs=2), tmp_path / "run")
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    saved = load_model(tmp_path / "run" / "model").network.state_dict()
    assert all(torch.equal(value, best["network." + name]) for name, value in saved.items())


def test_two_workers_give_the_same_weights_as_none(dataset, tmp_path):
    for workers in (0, 2):
        train(dataset, small_recipe(epochs=1, workers=workers), tmp_path / str(workers))
    assert weights_of(tmp_path / "0") == weights_of(tmp_path / "2")


def test_gates_rates_and_loss_are_logged(dataset, tmp_path):
    train(dataset, small_recipe(epochs=2), tmp_path / "run")
    steps = [line for line in log_of(tmp_path / "run") if "train/loss" in line]
    assert steps[0]["step"] == 10
    assert {"gate/attention", "gate/graph", "gate/reweighting", "lr/head", "lr/backbone"} <= steps[0].keys()


def test_a_finished_run_says_what_it_cost(dataset, tmp_path):
    info = train(dataset, small_recipe(epochs=2), tmp_path / "run")
    assert info["cost"]["parameters"] == sum(
        parameter.numel() for parameter in load_model(tmp_path / "run" / "model").network.parameters()
    )
    assert info["cost"]["images_per_second"] > 1 and info["cost"]["peak_memory_mib"] > 50
    assert train(dataset, small_recipe(epochs=2), tmp_path / "run") == info


def test_epochs_of_the_head_alone_are_no_measure_of_speed(dataset, tmp_path):
    info = train(dataset, small_recipe(epochs=1, head_warmup_epochs=1), tmp_path / "run")
    assert info["cost"]["images_per_second"] is None


def test_images_of_another_size_are_resized_and_it_is_said(dataset, tmp_path, capsys):
    recipe = with_model(small_recipe(epochs=1), image_size=64)
    train(dataset, recipe, tmp_path / "run")
    assert "from 32 to 64 pixels" in capsys.readouterr().err
    assert load_model(tmp_path / "run" / "model").image_size == 64


def test_a_model_accepts_the_files_that_its_dataset_accepted(tmp_path):
    folder = write_dataset(tmp_path / "data")
    info = read_json(folder / "dataset.json")
    write_json(folder / "dataset.json", {**info, "accept": ["modality"]})
    train(folder, small_recipe(epochs=1), tmp_path / "run")
    assert load_model(tmp_path / "run" / "model").accept == {"modality"}


def test_test_rows_are_never_read(dataset, tmp_path, monkeypatch):
    read = []
    get = datamodule.SplitRows.__getitem__

    def spy(self, part):
        read.extend(self._store_rows[part.rows].tolist())
        return get(self, part)

    monkeypatch.setattr(datamodule.SplitRows, "__getitem__", spy)
    train(dataset, small_recipe(epochs=1), tmp_path / "run")
    test = set(open_dataset(dataset).split("test")["row"].to_list())
    assert read and not test & set(read)


def test_a_frozen_backbone_stays_as_it_was(dataset, tmp_path):
    train(dataset, small_recipe(epochs=1, head_warmup_epochs=1, ema=0.0), tmp_path / "first")
    train(dataset, small_recipe(epochs=1, head_warmup_epochs=1, ema=0.0, head_lr=1e-2), tmp_path / "second")
    first, second = (load_model(tmp_path / name / "model").network for name in ("first", "second"))
    assert all(map(torch.equal, first.backbone.state_dict().values(), second.backbone.state_dict().values()))
    assert not torch.equal(first.head.classifier.weight, second.head.classifier.weight)


def test_frozen_stages_stay_as_they_were_and_the_others_learn(dataset, tmp_path):
    train(dataset, small_recipe(epochs=1, frozen_stages=1, ema=0.0), tmp_path / "first")
    train(dataset, small_recipe(epochs=1, frozen_stages=1, ema=0.0, backbone_lr=1e-2), tmp_path / "second")
    first, second = (load_model(tmp_path / name / "model").network.backbone.body for name in ("first", "second"))
    changed = {
        name.split(".")[1] if name.startswith("stages") else "stem"
        for (name, before), after in zip(first.named_parameters(), second.parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert changed == {"1", "2", "3"}


def test_a_score_on_val_that_is_not_finite_stops_the_run(dataset, tmp_path, monkeypatch):
    scored = Classifier.validation_step

    def not_finite(self, batch, batch_idx):
        scored(self, batch, batch_idx)
        logits, rows = self._scored[-1]
        self._scored[-1] = (logits * float("nan"), rows)

    monkeypatch.setattr(Classifier, "validation_step", not_finite)
    with pytest.raises(Diverged, match="epoch 1: a score on val is not finite"):
        train(dataset, small_recipe(epochs=1), tmp_path / "run")


def test_more_frozen_stages_than_there_are_is_an_error(dataset, tmp_path):
    with pytest.raises(RecipeError, match="frozen_stages is 9, but the backbone has 4 stages"):
        train(dataset, small_recipe(frozen_stages=9), tmp_path / "run")


def test_training_stops_when_val_no_longer_rises(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("trcgl.training.classifier.validation_metrics", lambda *_: {"val/mAP": 0.5})
    info = train(dataset, small_recipe(epochs=20, patience=2), tmp_path / "run")
    assert info["best"]["epoch"] == 1 and info["steps"] == 3 * 6


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images(dataset, tmp_path, monkeypatch):
    step = Classifier.training_step

    def training_step(self, batch, batch_idx):
        return step(self, batch, batch_idx) * (float("nan") if batch["number"] == 8 else 1.0)

    monkeypatch.setattr(Classifier, "training_step", training_step)
    with pytest.raises(Diverged, match=r"diverged after step 8 \(epoch 2\).*0-\d+\.png.*backbone-lr") as error:
        train(dataset, small_recipe(), tmp_path / "run")
    assert error.value.args[0].count(".png") == 8
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 6
    assert all(value.isfinite().all() for value in last["state_dict"].values())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"epochs": 0}, "train.epochs"),
        ({"ema": 1.0}, "train.ema"),
        ({"accumulate": 0}, "train.accumulate"),
        ({"swa_epochs": 2}, "train.swa_epochs is 2; it must be 0 where train.ema is set"),
        ({"swa_epochs": 4, "ema": 0.0}, "train.swa_epochs is 4; it must be between 0 and train.epochs"),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_anything_is_written(dataset, tmp_path, settings, named):
    with pytest.raises(RecipeError, match=named):
        train(dataset, small_recipe(**settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"attention_heads": 0}, "model.attention_heads is 0; it must be at least 1"),
        ({"attention_blocks": 0}, "model.attention_blocks"),
        ({"queries": 0}, "model.queries"),
        ({"label_embedding": 0}, "model.label_embedding"),
        ({"graph_share": 1.0}, "model.graph_share is 1.0; it must be between 0 and 1"),
    ],
)
def test_a_setting_of_a_head_that_cannot_be_is_named_too(dataset, tmp_path, settings, named):
    with pytest.raises(RecipeError, match=named):
        train(dataset, with_model(small_recipe(), **settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_the_graph_that_its_recipe_chose(dataset, tmp_path):
    recipe = with_model(small_recipe(epochs=1), graph="ml_gcn", graph_threshold=0.01)
    train(dataset, recipe, tmp_path / "run")
    opened = open_dataset(dataset)
    conditional = counts(opened.manifest.filter(pl.col("split") == "train"), opened.space).conditional()
    assert torch.equal(
        load_model(tmp_path / "run" / "model").adjacency, ml_gcn_adjacency(torch.from_numpy(conditional), 0.01, 0.2)
    )


def test_a_full_disk_is_an_error_that_names_the_checkpoint(dataset, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match=r"best\.ckpt.*No space left.*Free some space"):
        train(dataset, small_recipe(epochs=1), tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("loss", "head", "stage", "launcher"),
    [
        ("bce", "trcgl", "head_warmup_epochs", "torchrun"),
        ("entropy_maximization", "experts", "retrain_epochs", "srun"),
    ],
)
def test_two_processes_train_as_one(dataset, tmp_path, loss, head, stage, launcher):
    """Equal up to the order of sums: batches of 9 do not divide by 2, and some labels are unknown."""
    recipe = small_recipe(epochs=2, batch_size=9, ema=0.9, **{stage: 1})
    recipe = with_model(recipe, drop_path=0.0, dropout=0.0, head=head)
    recipe = dataclasses.replace(recipe, loss=LossRecipe(name=loss))
    recipe = dataclasses.replace(recipe, augment=dataclasses.replace(recipe.augment, mixup=0.4))
    train(dataset, recipe, tmp_path / "first")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipe_of_two = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, devices=2))

    given = (dataset, recipe_of_two, tmp_path / "second")
    ranks = [processes.start(processes.train_as_one_of_two, *given, rank, port, launcher) for rank in range(2)]
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    first, second = (load_model(tmp_path / name / "model").network.state_dict() for name in ("first", "second"))
    for name, value in first.items():
        assert torch.allclose(value, second[name], rtol=1e-3, atol=1e-4), name
    assert [line["val/mAP"] for line in log_of(tmp_path / "first") if "val/mAP" in line] == pytest.approx(
        [line["val/mAP"] for line in log_of(tmp_path / "second") if "val/mAP" in line]
    )


def test_a_lone_last_image_that_batch_norm_cannot_be_trained_on_is_refused_at_the_start(dataset, tmp_path):
    """At 32 pixels the last feature map of this backbone has one place."""
    rows = open_dataset(dataset).split("train").height
    recipe = with_model(small_recipe(epochs=1, batch_size=rows - 1), backbone="resnet18", image_size=32, drop_path=0.0)
    with pytest.raises(RecipeError, match=rf"batch_size {rows - 1} leaves a batch of one of the {rows} .* {rows}\."):
        train(dataset, recipe, tmp_path / "run")
    fits = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, batch_size=rows))
    train(dataset, fits, tmp_path / "run")


def test_a_lone_last_image_is_trained_on_where_the_feature_map_has_several_places(dataset, tmp_path):
    rows = open_dataset(dataset).split("train").height
    recipe = with_model(small_recipe(epochs=1, batch_size=rows - 1), backbone="resnet18", image_size=64, drop_path=0.0)
    assert train(dataset, recipe, tmp_path / "run")["finished"]


def test_the_corrected_command_may_use_the_folder_of_one_that_failed_before_its_first_checkpoint(dataset, tmp_path):
    wrong = with_model(small_recipe(epochs=1), weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(CheckpointError, match="none"):
        train(dataset, wrong, tmp_path / "run")
    info = train(dataset, small_recipe(epochs=1), tmp_path / "run")
    with pytest.raises(RecipeError, match="other settings"):
        train(dataset, wrong, tmp_path / "run")
    assert read_json(tmp_path / "run" / "run.json") == info


def test_a_second_command_for_the_same_folder_is_refused_and_the_first_finishes(dataset, tmp_path):
    first = processes.start(
        processes.train_and_exit_like_the_command_line, dataset, small_recipe(epochs=8), tmp_path / "run"
    )
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.05)
    with pytest.raises(DataError, match=rf"run: process {first.pid} on .* writes to it"):
        train(dataset, small_recipe(epochs=8), tmp_path / "run")
    first.join()
    assert first.exitcode == 0
    assert train(dataset, small_recipe(epochs=8), tmp_path / "run")["finished"]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_on_mixed_images_with_unknown_labels(dataset, tmp_path, name):
    recipe = small_recipe(epochs=1)
    augment = dataclasses.replace(recipe.augment, mixup=0.4)
    train(dataset, dataclasses.replace(recipe, loss=LossRecipe(name=name), augment=augment), tmp_path / "run")
    network = load_model(tmp_path / "run" / "model").network
    assert all(parameter.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize(("unknown", "same"), [(0.0, True), (0.3, False)])
def test_entropy_maximization_differs_from_cross_entropy_by_unknown_labels_alone(tmp_path, unknown, same):
    data = write_dataset(tmp_path / "data", unknown=unknown)
    for name in ("bce", "entropy_maximization"):
        train(data, dataclasses.replace(small_recipe(epochs=1), loss=LossRecipe(name=name)), tmp_path / name)
    assert (weights_of(tmp_path / "bce") == weights_of(tmp_path / "entropy_maximization")) == same


def test_a_deferred_check_stops_before_the_weights_change_and_names_the_step(dataset, tmp_path, monkeypatch):
    step, saved = Classifier.training_step, []

    def training_step(self, batch, batch_idx):
        saved.append(
            {name: value.clone() for name, value in self.network.state_dict().items() if "running" not in name}
        )
        return step(self, batch, batch_idx) * (float("nan") if batch["number"] == 8 else 1.0)

    monkeypatch.setattr(Classifier, "training_step", training_step)
    for module in ("classifier", "clipping"):  # the fused optimizer exists for CPUs as well
        monkeypatch.setattr(f"trcgl.training.{module}.is_fused", lambda *_: True)
    with pytest.raises(Diverged, match=r"diverged after step 8 \(epoch 2\): .*gradient norm nan.*0-\d+\.png"):
        train(dataset, small_recipe(), tmp_path / "run")
    assert len(saved) == 10
    same = [all(value.equal(after[name]) for name, value in before.items()) for before, after in pairwise(saved)]
    assert same == [False] * 8 + [True]


def test_equal_averaging_keeps_the_mean_of_the_weights_after_the_last_epochs_steps(dataset, tmp_path, monkeypatch):
    after = []

    def lr_scheduler_step(self, scheduler, metric):
        after.append({name: value.clone() for name, value in self.network.named_parameters()})
        return step(self, scheduler, metric)

    step = Classifier.lr_scheduler_step
    monkeypatch.setattr(Classifier, "lr_scheduler_step", lr_scheduler_step)
    train(dataset, small_recipe(epochs=3, swa_epochs=2, ema=0.0), tmp_path / "run")
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert len(after) == 18
    for name in after[0]:
        mean = torch.stack([weights[name] for weights in after[6:]]).mean(0)
        torch.testing.assert_close(last[f"network.{name}"], mean, rtol=1e-5, atol=1e-6)


def test_gradient_checkpointing_changes_no_weight(dataset, tmp_path):
    for name, on in (("plain", False), ("checkpointed", True)):
        train(dataset, small_recipe(epochs=1, gradient_checkpointing=on), tmp_path / name)
    plain, checkpointed = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("plain", "checkpointed")
    )
    for name, value in plain.items():
        if "running" not in name and "num_batches" not in name:  # a recomputation updates the statistics twice
            torch.testing.assert_close(value, checkpointed[name])
