"""A run that was stopped, however, ends with the weights of a run that was not, bit for bit."""

import os
import signal
import time

import pytest
import torch

from tests.dataset.small_dataset import small_recipe, write_dataset
from tests.training import processes
from trcgl.core.errors import CheckpointError, Interrupted, RecipeError
from trcgl.training.classifier import Classifier
from trcgl.training.train import train

RECIPE = small_recipe(
    accumulate=2, head_warmup_epochs=1, save_steps=2, row_sampling="repeat_factor", repeat_threshold=0.5
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A run of three epochs, six batches and three optimizer steps each, that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(dataset, RECIPE, out)
    return out


def outcome(out):
    last = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    return {
        "model": (out / "model" / "model.safetensors").read_bytes(),
        "log": (out / "metrics.jsonl").read_text(),
        "trained on": [value.numpy().tobytes() for value in last["current_model_state"].values()],
        "optimizer": [
            {name: value.numpy().tobytes() for name, value in state.items()}
            for state in last["optimizer_states"][0]["state"].values()
        ],
    }


def same(first, second):
    first, second = outcome(first), outcome(second)
    return [name for name in first if first[name] != second[name]] == []


def stop_at(monkeypatch, batch, number=signal.SIGTERM):
    """Send this process a signal while it works on a batch of the run."""
    step = Classifier.training_step

    def training_step(self, content, batch_idx):
        if content["number"] == batch:
            os.kill(os.getpid(), number)
        return step(self, content, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", training_step)


@pytest.mark.parametrize(
    ("batch", "number"),
    [
        pytest.param(1, signal.SIGTERM, id="with the first step"),
        pytest.param(8, signal.SIGINT, id="in the middle of an accumulated step of a later epoch"),
        pytest.param(11, signal.SIGTERM, id="in the last batch of an epoch"),
    ],
)
def test_a_run_stopped_by_a_signal_ends_with_the_same_weights(dataset, whole, tmp_path, monkeypatch, batch, number):
    stop_at(monkeypatch, batch, number)
    with pytest.raises(Interrupted) as stopped:
        train(dataset, RECIPE, tmp_path / "run")
    assert stopped.value.signal == number
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.undo()
    train(dataset, RECIPE, tmp_path / "run")
    assert same(whole, tmp_path / "run")


def test_the_signal_handlers_of_the_program_come_back(dataset, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop_at(monkeypatch, 1)
    with pytest.raises(Interrupted):
        train(dataset, RECIPE, tmp_path / "run")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_run_killed_while_it_saves_keeps_its_checkpoint_and_ends_with_the_same_weights(dataset, whole, tmp_path):
    process = processes.start(processes.train_and_be_killed_while_saving, dataset, RECIPE, tmp_path / "run")
    process.join()
    assert process.exitcode == -signal.SIGKILL
    checkpoints = tmp_path / "run" / "checkpoints"
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] > 0
    assert list(checkpoints.glob(".*.part"))
    train(dataset, RECIPE, tmp_path / "run")
    assert same(whole, tmp_path / "run")
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_sigterm_from_outside_saves_and_the_same_call_finishes(dataset, whole, tmp_path):
    process = processes.start(processes.train_and_exit_like_the_command_line, dataset, RECIPE, tmp_path / "run")
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 143
    train(dataset, RECIPE, tmp_path / "run")
    assert same(whole, tmp_path / "run")


def test_a_finished_run_says_so_and_changes_nothing(dataset, whole, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert train(dataset, RECIPE, whole)["best"]["epoch"] >= 1
    assert "is finished" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_folder_of_another_recipe_is_refused_and_the_difference_named(dataset, whole):
    with pytest.raises(RecipeError, match=r"train\.ema: 0\.99 → 0\.5"):
        train(dataset, small_recipe(**{**vars(RECIPE.train), "ema": 0.5}), whole)


def test_a_folder_trained_on_another_dataset_is_refused(whole, tmp_path):
    other = write_dataset(tmp_path / "other", seed=1)
    with pytest.raises(RecipeError, match="another dataset"):
        train(other, RECIPE, whole)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_named(dataset, tmp_path, monkeypatch, content):
    stop_at(monkeypatch, 1)
    with pytest.raises(Interrupted):
        train(dataset, RECIPE, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        train(dataset, RECIPE, tmp_path / "run")
