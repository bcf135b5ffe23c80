import json

import numpy as np
import polars as pl
import pytest

from tests.dataset.small_dataset import SPACE, small_recipe, write_dataset
from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.evaluate import evaluate_run, fit_on_val
from trcgl.evaluate.predictions import read_predictions
from trcgl.metrics.metrics import average_precision
from trcgl.model.folder import load_model
from trcgl.training.train import train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="module")
def judged(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train(dataset, small_recipe(epochs=2), out)
    assert load_model(out / "model").temperature is None
    return out, evaluate_run(out)


def test_test_is_scored_row_by_row_and_judged(dataset, judged):
    out, result = judged
    predictions = read_predictions(out / "predictions" / "test.parquet", SPACE)
    rows = open_dataset(dataset).split("test")
    assert predictions.image_id.to_list() == rows["image_id"].to_list()
    mass = average_precision(predictions.truth[:, 0], predictions.score[:, 0], predictions.weight)
    assert result["findings"]["Mass"]["AP"]["value"] == pytest.approx(mass.value)
    assert result["split"] == "test"
    assert json.loads(json.dumps(result)) == storage.read_json(out / "evaluation" / "test.json")
    assert (out / "report.html").read_text().startswith("<!")


def test_scores_are_calibrated_logits_of_the_saved_model(dataset, judged):
    out, _ = judged
    model, opened = load_model(out / "model"), open_dataset(dataset)
    rows = opened.split("test")["row"].to_numpy()
    predictions = read_predictions(out / "predictions" / "test.parquet", SPACE)
    assert np.allclose(predictions.score, model.score(opened.images[rows]), atol=1e-6)
    assert np.allclose(predictions.logit, model.logits(opened.images[rows]), atol=1e-5)


def test_temperature_and_thresholds_come_from_val_alone(judged, dataset, tmp_path_factory):
    out, _ = judged
    info = storage.read_json(out / "model" / "model.json")
    assert info["temperature"] > 0 and set(info["thresholds"]) == set(SPACE.findings)
    assert (out / "predictions" / "val.parquet").exists() and (out / "evaluation" / "val.json").exists()
    (out / "predictions" / "test.parquet").unlink()
    evaluate_run(out)
    assert storage.read_json(out / "model" / "model.json") == info


def test_val_is_judged_where_it_has_been_scored_alone(dataset, judged, tmp_path):
    train(dataset, small_recipe(epochs=2), tmp_path / "run")
    fit_on_val(tmp_path / "run", open_dataset(dataset))
    assert not (tmp_path / "run" / "evaluation").exists()
    told = evaluate_run(tmp_path / "run")
    assert told == judged[1] and (tmp_path / "run" / "evaluation" / "val.json").exists()


def test_another_dataset_is_judged_on_the_findings_that_both_have(judged, tmp_path):
    other = write_dataset(tmp_path / "other", seed=1, findings=("Hernia", "Other", "Mass"))
    out, _ = judged
    result = evaluate_run(out, dataset=other)
    assert set(result["findings"]) == {"Mass", "Hernia"}
    assert (out / "evaluation" / "small-1-test.json").exists()
    assert (out / "predictions" / "small-1-test.parquet").exists()


def test_the_evaluation_of_a_dataset_with_the_same_name_is_not_overwritten(judged, tmp_path):
    first, second = (write_dataset(tmp_path / one, seed=7, test=rows) for one, rows in (("a", 24), ("b", 30)))
    evaluate_run(judged[0], dataset=first)
    evaluate_run(judged[0], dataset=first)
    path = judged[0] / "evaluation" / "small-7-test.json"
    before = path.read_text()
    with pytest.raises(DataError, match=r"another dataset called 'small-7'.*--name"):
        evaluate_run(judged[0], dataset=second)
    assert path.read_text() == before


def test_another_dataset_without_a_common_finding_is_refused(judged, tmp_path):
    other = write_dataset(tmp_path / "other", seed=2, findings=("A", "B", "C"))
    with pytest.raises(DataError, match="none of the model's findings"):
        evaluate_run(judged[0], dataset=other)


def test_images_that_the_model_was_trained_on_are_refused_elsewhere(dataset, judged, tmp_path):
    same = write_dataset(tmp_path / "same", train=24, val=24, test=44)  # the same images, split otherwise
    with pytest.raises(DataError, match="used in training"):
        evaluate_run(judged[0], dataset=same)


def test_a_run_that_is_not_finished_is_refused(judged, tmp_path):
    (tmp_path / "run").mkdir()
    info = storage.read_json(judged[0] / "run.json")
    storage.write_json(tmp_path / "run" / "run.json", {name: info[name] for name in info if name != "finished"})
    with pytest.raises(DataError, match="not finished"):
        evaluate_run(tmp_path / "run")


def test_a_dataset_that_changed_since_training_is_refused(tmp_path):
    dataset = write_dataset(tmp_path / "data")
    train(dataset, small_recipe(epochs=1), tmp_path / "run")
    info = storage.read_json(dataset / "dataset.json")
    storage.write_json(dataset / "dataset.json", {**info, "name": "changed"})
    with pytest.raises(DataError, match="no longer the dataset"):
        evaluate_run(tmp_path / "run")


def test_a_run_moved_with_its_dataset_still_finds_it(tmp_path):
    write_dataset(tmp_path / "here" / "data")
    train(tmp_path / "here" / "data", small_recipe(epochs=1), tmp_path / "here" / "run")
    (tmp_path / "here").rename(tmp_path / "there")
    assert evaluate_run(tmp_path / "there" / "run", split="val")["split"] == "val"
    assert pl.read_parquet(tmp_path / "there" / "run" / "predictions" / "val.parquet").height == 24
