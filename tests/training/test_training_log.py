"""Loggers by name: TensorBoard and CSV files in the run, and a message where a package is missing."""

import importlib.util
import json

import pytest

from tests.dataset.small_dataset import small_recipe, write_dataset
from trcgl.core.errors import RecipeError
from trcgl.training.train import train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


def logged(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "pattern"), [("tensorboard", "tensorboard/events.*"), ("csv", "csv/metrics.csv"), ("none", "")]
)
def test_a_logger_is_chosen_by_name(dataset, tmp_path, name, pattern):
    train(dataset, small_recipe(epochs=1, logger=name), tmp_path / "run")
    for kind in ("tensorboard", "csv"):
        assert (tmp_path / "run" / kind).exists() == (kind == name)
    assert not pattern or list((tmp_path / "run").glob(pattern))
    assert any("val/mAP" in line for line in logged(tmp_path / "run"))


def test_the_csv_file_has_the_values_of_metrics_jsonl(dataset, tmp_path):
    import polars as pl

    train(dataset, small_recipe(epochs=1, logger="csv"), tmp_path / "run")
    (value,) = [line["val/mAP"] for line in logged(tmp_path / "run") if "val/mAP" in line]
    table = pl.read_csv(tmp_path / "run" / "csv" / "metrics.csv")
    assert table["val/mAP"].drop_nulls().to_list() == pytest.approx([value])


@pytest.mark.parametrize(
    ("name", "package"),
    [("mlflow", r"'trcgl-net\[mlflow\]'"), ("wandb", r"'trcgl-net\[wandb\]'"), ("tensorboard", "tensorboard")],
)
def test_a_missing_package_is_named_before_anything_is_written(dataset, tmp_path, name, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=rf"train\.logger is {name}, .* Run `pip install {package}`"):
        train(dataset, small_recipe(epochs=1, logger=name), tmp_path / "run")
    assert not (tmp_path / "run").exists()
