"""External evaluation of runs whose initial weights have seen, or may have seen, the evaluated patients."""

import polars as pl
import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.dataset.small_dataset import small_recipe, write_dataset
from trcgl.core.errors import DataError
from trcgl.core.recipe import overridden
from trcgl.core.storage import read_json, sha256_file, write_json
from trcgl.dataset.patient_hashes import FILE
from trcgl.evaluate.ensemble import evaluate_ensemble
from trcgl.evaluate.evaluate import evaluate_run
from trcgl.training.train import train

RECIPE = overridden(small_recipe(epochs=1), {"evaluate.replicates": 100})


def dataset_of(folder, seed, source="table", turned=False):
    """A dataset whose patients depend on the seed; `turned` exchanges train and test."""
    write_dataset(folder, seed=seed)
    path = folder / "manifest.parquet"
    manifest = pl.read_parquet(path)
    if turned:
        manifest = manifest.with_columns(pl.col("split").replace({"train": "test", "test": "train"}))
    manifest.write_parquet(path)
    info = read_json(folder / "dataset.json")
    info["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(folder / "dataset.json", {**info, "name": folder.name, "source": source})
    return folder


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """A run on other patients than those of the run that it started from."""
    folder = tmp_path_factory.mktemp("runs")
    train(dataset_of(folder / "first-data", 0), RECIPE, folder / "first")
    recipe = overridden(RECIPE, {"model.weights": str(folder / "first")})
    train(dataset_of(folder / "second-data", 1), recipe, folder / "second")
    return folder / "second"


def test_patients_of_the_start_are_refused(second, tmp_path):
    seen = dataset_of(tmp_path / "seen", 0, turned=True)
    with pytest.raises(DataError, match=r"started from first, which was trained or selected on 22 of the 22 patients"):
        evaluate_run(second, dataset=seen)
    with pytest.raises(DataError, match="started from first, which was trained or selected on 22"):
        evaluate_ensemble([second], tmp_path / "ensemble", dataset=seen)


def test_patients_whom_neither_run_has_seen_and_other_archives_are_evaluated(second, tmp_path):
    assert "unchecked" not in evaluate_run(second, dataset=dataset_of(tmp_path / "new", 3), localization=False)
    elsewhere = dataset_of(tmp_path / "elsewhere", 0, source="nih", turned=True)
    assert "unchecked" not in evaluate_run(second, dataset=elsewhere, localization=False)


def test_a_start_without_recorded_patients_is_named_in_the_report(second, tmp_path):
    hashes = second / FILE
    stored = hashes.read_text()
    write_json(hashes, {**read_json(hashes), "groups": read_json(hashes)["groups"][:1]})
    try:
        evaluation = evaluate_run(second, dataset=dataset_of(tmp_path / "seen", 0, turned=True), localization=False)
    finally:
        hashes.write_text(stored)
    assert len(evaluation["unchecked"]) == 1
    assert "were used to train first, from which second started" in evaluation["unchecked"][0]


def test_a_checkpoint_of_unknown_patients_is_named_in_the_report(tmp_path):
    torch.manual_seed(0)
    save_file(timm.create_model(RECIPE.model.backbone).state_dict(), tmp_path / "theirs.safetensors")
    recipe = overridden(RECIPE, {"model.weights": str(tmp_path / "theirs.safetensors")})
    train(dataset_of(tmp_path / "data", 0), recipe, tmp_path / "run")
    external = dataset_of(tmp_path / "external", 3)
    (sentence,) = evaluate_run(tmp_path / "run", dataset=external, localization=False)["unchecked"]
    assert "were used to train theirs.safetensors, from which run started" in sentence
    page = next(path for path in (tmp_path / "run").glob("report-*-test.html"))
    assert sentence in page.read_text()
    evaluation = evaluate_ensemble([tmp_path / "run"], tmp_path / "ensemble", dataset=external)
    assert evaluation["unchecked"] == [sentence]
