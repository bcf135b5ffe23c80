"""Runs that start from other weights: what they record, and whose patients these weights may have seen."""

import json

import polars as pl
import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.dataset.small_dataset import small_recipe, write_dataset
from tests.model.small_run import SPLITS
from trcgl.core.errors import DataError
from trcgl.core.recipe import overridden
from trcgl.core.storage import read_json, sha256_file, write_json
from trcgl.dataset.patient_hashes import FILE
from trcgl.export.export import export
from trcgl.model.folder import load_model
from trcgl.training.train import train


def starting_from(weights, **changes):
    return overridden(small_recipe(epochs=1), {"model.weights": str(weights), **changes})


def resplit(folder, source="table"):
    """Prepare the same images again with another split: what was train is test."""
    manifest = pl.read_parquet(folder / "manifest.parquet")
    turned = pl.col("split").replace({"train": "test", "test": "train"})
    manifest.with_columns(turned).write_parquet(folder / "manifest.parquet")
    info = read_json(folder / "dataset.json")
    path = folder / "manifest.parquet"
    info["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(folder / "dataset.json", {**info, "source": source})
    return folder


def described(folder):
    """A dataset with what the cards of an export state."""
    facts = {"splits": SPLITS, "counts": {"images": 92}, "license": "nobody's", "notes": []}
    write_json(folder / "dataset.json", {**read_json(folder / "dataset.json"), **facts})
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run that others start from."""
    folder = tmp_path_factory.mktemp("first")
    dataset = described(write_dataset(folder / "data"))
    train(dataset, small_recipe(epochs=1), folder / "run")
    return folder


def test_a_run_on_the_same_split_is_a_start(first, tmp_path, capsys):
    info = train(first / "data", starting_from(first / "run", **{"train.head_warmup_epochs": 1}), tmp_path / "run")
    said = capsys.readouterr().err
    assert "the backbone starts from" in said and "No patient of val or test was used to train run." in said
    before, after = (load_model(run).network.backbone.state_dict() for run in (first / "run", tmp_path / "run"))
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert info["start"]["kind"] == "run" and info["start"]["source"] == "table"
    assert load_model(tmp_path / "run").info["start"] == info["start"]


def test_a_run_that_saw_patients_of_test_is_refused(first, tmp_path):
    other = resplit(write_dataset(tmp_path / "other"))
    with pytest.raises(DataError, match=r"trained or selected on 34 of the 34 patients in val and test"):
        train(other, starting_from(first / "run"), tmp_path / "run")


def test_a_start_of_a_start_is_compared_as_well(first, tmp_path):
    elsewhere = write_dataset(tmp_path / "elsewhere", seed=5)
    train(elsewhere, starting_from(first / "run"), tmp_path / "second")
    groups = read_json(tmp_path / "second" / FILE)["groups"]
    assert len(groups) == 2 and "0-1" not in json.dumps(groups)
    other = resplit(write_dataset(tmp_path / "other"))
    with pytest.raises(DataError, match="trained or selected on 34"):
        train(other, starting_from(tmp_path / "second"), tmp_path / "run")


def test_an_exported_model_of_the_same_archive_is_refused_unless_its_patients_are_those_of_train(tmp_path):
    own = described(resplit(write_dataset(tmp_path / "own"), "nih"))
    train(own, small_recipe(epochs=1), tmp_path / "run")
    exported = tmp_path / "exported"
    export(tmp_path / "run", exported, onnx=False)
    assert not (exported / FILE).exists()
    train(own, starting_from(exported), tmp_path / "again")
    other = resplit(resplit(write_dataset(tmp_path / "other"), "nih"), "nih")
    with pytest.raises(DataError, match="whether it has seen patients of val or test cannot be checked"):
        train(other, starting_from(exported), tmp_path / "refused")


def test_an_exported_model_of_another_table_is_named(first, tmp_path, capsys):
    export(first / "run", tmp_path / "exported", onnx=False)
    info = train(write_dataset(tmp_path / "data", seed=7), starting_from(tmp_path / "exported"), tmp_path / "run")
    sentence = "Whether the patients of another table, on which exported was trained, are in val or test could not be"
    assert sentence in info["start"]["patients"] and sentence in capsys.readouterr().err


def test_the_model_card_names_a_file_whose_patients_are_not_known(first, tmp_path):
    torch.manual_seed(0)
    backbone = load_model(first / "run").info["recipe"]["model"]["backbone"]
    save_file(timm.create_model(backbone).state_dict(), tmp_path / "theirs.safetensors")
    train(first / "data", starting_from(tmp_path / "theirs.safetensors"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "exported", onnx=False)
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "The backbone started from `theirs.safetensors`." in card
    assert "It is not known on which images theirs.safetensors was trained." in card
    assert str(tmp_path) not in card
