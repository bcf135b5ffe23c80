import json

import numpy as np
import polars as pl
import pytest

from tests.dataset.small_dataset import SPACE, small_recipe, write_dataset
from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.evaluate import evaluate_run, score_run
from trcgl.evaluate.predictions import read_predictions
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.model import run_folder
from trcgl.model.folder import load_model
from trcgl.model.run_folder import open_run
from trcgl.training.train import train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="module")
def evaluated(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train(dataset, small_recipe(epochs=2), out)
    assert load_model(out / "model").temperature is None
    return out, evaluate_run(out)


def test_test_is_scored_row_by_row_and_evaluated(dataset, evaluated):
    out, result = evaluated
    predictions = read_predictions(out / "predictions" / "test.parquet", SPACE)
    rows = open_dataset(dataset).split("test")
    assert predictions.image_id.to_list() == rows["image_id"].to_list()
    mass = AVERAGE_PRECISION(predictions.truth[:, 0], predictions.score[:, 0], predictions.weight)
    assert result["findings"]["Mass"]["AP"]["value"] == pytest.approx(mass.value)
    assert result["split"] == "test"
    assert json.loads(json.dumps(result)) == storage.read_json(out / "evaluation" / "test.json")
    assert (out / "report.html").read_text().startswith("<!")


def test_scores_are_calibrated_logits_of_the_saved_model(dataset, evaluated):
    out, _ = evaluated
    model, opened = load_model(out / "model"), open_dataset(dataset)
    rows = opened.split("test")["row"].to_numpy()
    predictions = read_predictions(out / "predictions" / "test.parquet", SPACE)
    assert np.allclose(predictions.score, model.score(opened.images[rows]), atol=1e-6)
    assert np.allclose(predictions.logit, model.logits(opened.images[rows]), atol=1e-5)


def test_temperature_and_thresholds_come_from_val_alone(evaluated, dataset, tmp_path_factory):
    out, _ = evaluated
    info = storage.read_json(out / "model" / "model.json")
    assert info["temperature"] > 0 and set(info["thresholds"]) == set(SPACE.findings)
    assert (out / "predictions" / "val.parquet").exists() and (out / "evaluation" / "val.json").exists()
    (out / "predictions" / "test.parquet").unlink()
    evaluate_run(out)
    assert storage.read_json(out / "model" / "model.json") == info


def test_val_is_evaluated_where_it_was_only_scored(dataset, evaluated, tmp_path):
    train(dataset, small_recipe(epochs=2), tmp_path / "run")
    calibration = score_run(open_run(tmp_path / "run"), "val").calibration
    assert not (tmp_path / "run" / "evaluation").exists()
    result = evaluate_run(tmp_path / "run")
    assert result == evaluated[1] and (tmp_path / "run" / "evaluation" / "val.json").exists()
    assert open_run(tmp_path / "run").model.thresholds == calibration.thresholds


def test_another_dataset_is_evaluated_on_the_shared_findings(evaluated, tmp_path):
    other = write_dataset(tmp_path / "other", seed=1, findings=("Hernia", "Other", "Mass"))
    out, _ = evaluated
    result = evaluate_run(out, dataset=other)
    assert set(result["findings"]) == {"Mass", "Hernia"}
    assert (out / "evaluation" / "small-1-test.json").exists()
    assert (out / "predictions" / "small-1-test.parquet").exists()


def test_the_evaluation_of_a_dataset_with_the_same_name_is_not_overwritten(evaluated, tmp_path):
    first, second = (write_dataset(tmp_path / name, seed=7, test=rows) for name, rows in (("a", 24), ("b", 30)))
    evaluate_run(evaluated[0], dataset=first)
    evaluate_run(evaluated[0], dataset=first)
    path = evaluated[0] / "evaluation" / "small-7-test.json"
    before = path.read_text()
    with pytest.raises(DataError, match=r"another dataset called 'small-7'.*--name"):
        evaluate_run(evaluated[0], dataset=second)
    assert path.read_text() == before


def test_another_dataset_without_a_common_finding_is_refused(evaluated, tmp_path):
    other = write_dataset(tmp_path / "other", seed=2, findings=("A", "B", "C"))
    with pytest.raises(DataError, match="none of the model's findings"):
        evaluate_run(evaluated[0], dataset=other)


def test_images_that_the_model_was_trained_on_are_refused_elsewhere(dataset, evaluated, tmp_path):
    same = write_dataset(tmp_path / "same", train=24, val=24, test=44)  # the same images, split otherwise
    with pytest.raises(DataError, match="used in training"):
        evaluate_run(evaluated[0], dataset=same)


def test_a_run_that_is_not_finished_is_refused(evaluated, tmp_path):
    (tmp_path / "run").mkdir()
    info = storage.read_json(evaluated[0] / "run.json")
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


def test_the_model_is_loaded_once_for_a_whole_evaluation(evaluated, monkeypatch):
    loaded = []
    original = run_folder.load_model
    monkeypatch.setattr(run_folder, "load_model", lambda *args, **how: loaded.append(args) or original(*args, **how))
    evaluate_run(evaluated[0])
    assert len(loaded) == 1


def test_the_label_space_of_the_own_dataset_is_stored_as_it_is(dataset, evaluated):
    stored = storage.read_json(evaluated[0] / "evaluation" / "test.json")
    assert stored["label_space"] == storage.read_json(dataset / "dataset.json")["label_space"]
