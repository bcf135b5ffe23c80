"""Training and evaluation on some of the views of a dataset."""

import dataclasses

import polars as pl
import pytest

from tests.dataset.small_dataset import small_recipe, write_dataset
from trcgl.core.errors import DataError
from trcgl.core.storage import read_json
from trcgl.dataset.patient_halves import half_of
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.evaluate import evaluate_run
from trcgl.training.batches import RadiographData
from trcgl.training.train import train


def of_views(recipe, *views):
    return dataclasses.replace(
        recipe,
        train=dataclasses.replace(recipe.train, views=views),
        evaluate=dataclasses.replace(recipe.evaluate, views=views, replicates=100),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    dataset = write_dataset(folder / "data")
    train(dataset, of_views(small_recipe(epochs=1), "frontal"), folder / "run")
    return dataset, folder / "run"


def test_only_images_of_the_named_views_are_trained_and_validated_on(trained):
    opened = open_dataset(trained[0])
    data = RadiographData(opened, of_views(small_recipe(epochs=1), "lateral"))
    for rows, split in ((data.train_rows, "train"), (data.val_rows, "val")):
        assert rows.image_ids == opened.split(split).filter(view="lateral")["image_id"].to_list()
    assert data.train_batches < RadiographData(opened, small_recipe(epochs=1)).train_batches


def test_only_images_of_the_named_views_are_evaluated_and_calibrated_on(trained):
    dataset, run = trained
    frontal = open_dataset(dataset).split("test").filter(view="frontal")
    evaluation = evaluate_run(run)
    assert evaluation["images"] == frontal.height
    assert set(evaluation["subsets"]) >= {"view=frontal", "sex=F", "sex=M"}
    for split in ("val", "test"):
        stored = pl.read_parquet(run / "predictions" / f"{split}.parquet")
        assert stored["view"].unique().to_list() == ["frontal"]


def test_the_half_of_a_model_is_recognized_whatever_its_views(trained):
    digest = read_json(trained[1] / "model" / "model.json")["training_patient_digest"]
    assert half_of(open_dataset(trained[0]), digest) == "none"


def test_a_dataset_without_views_is_refused_before_training(tmp_path, trained):
    opened = open_dataset(trained[0])
    bare = dataclasses.replace(opened, manifest=opened.manifest.with_columns(view=pl.lit(None, pl.String)))
    with pytest.raises(DataError, match="column 'view' of the manifest is empty"):
        RadiographData(bare, of_views(small_recipe(epochs=1), "frontal"))
