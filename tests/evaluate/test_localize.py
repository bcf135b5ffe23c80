"""Maps of a model against the masks of phantoms."""

import dataclasses

import polars as pl
import pytest
import torch

from tests.dataset.small_dataset import small_recipe, write_dataset
from trcgl.core.storage import read_json, write_json
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.regions import boxed_pairs, phantom_masks
from trcgl.dataset.sources.phantom import Options, render_again
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.localize import localize
from trcgl.metrics.localization import centered_gaussian, measure
from trcgl.model.folder import LoadedModel
from trcgl.model.trcgl_net import TrcglNet

OPTIONS = Options(train_images=8, positives_per_finding=1, size=128)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "phantom"
    prepare("phantom", None, folder, PrepareOptions(size=32), OPTIONS)
    return open_dataset(folder)


@pytest.fixture(scope="module")
def pairs(phantoms):
    return boxed_pairs(phantoms, phantoms.split("test"), phantoms.space)


@pytest.fixture(scope="module")
def model(phantoms):
    recipe = small_recipe()
    graph = torch.eye(len(phantoms.space.findings))
    network = TrcglNet(recipe.model, len(graph), graph).eval()
    info = {"preprocessing": {"image_size": 32, "fit": "letterbox"}, "recipe": dataclasses.asdict(recipe)}
    return LoadedModel(network, phantoms.space, info, None, None, graph)


def test_phantoms_are_evaluated_on_the_rendered_masks(phantoms, pairs, model):
    masks = phantom_masks(phantoms, pairs)
    table = localize(model, phantoms, pairs, masks=masks)
    assert table.height == pairs.height == len(masks) > 20
    for image, finding, area, energy in table.select(
        "image_id", "finding", "area", "centered_gaussian/energy"
    ).iter_rows():
        mask = render_again(image, OPTIONS).masks[finding]
        assert area == pytest.approx(mask.mean())  # phantoms of 128 px are compared as they are
        assert energy == pytest.approx(measure(centered_gaussian(128)[None], mask[None])[0, 1])
    boxed = localize(model, phantoms, pairs)
    assert (boxed["area"] > table["area"]).mean() > 0.5  # a box is seldom full
    assert boxed.select("image_id", "finding", "boxes").equals(table.select("image_id", "finding", "boxes"))


def test_phantoms_that_this_version_renders_differently_have_boxes_alone(phantoms, pairs, tmp_path):
    moved = pairs.with_columns(x=pl.col("x").list.eval(pl.element() + 0.1))
    assert phantom_masks(phantoms, moved) is None
    settings = read_json(phantoms.folder / "prepare.json")
    for name, changed in (
        ("seed", settings["source options"] | {"seed": 1}),
        ("option", settings["source options"] | {"unknown": 1}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write_json(folder / "prepare.json", settings | {"source options": changed})
        assert phantom_masks(dataclasses.replace(phantoms, folder=folder), pairs) is None


def test_radiographs_have_no_rendered_masks(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "small", boxes=True))
    pairs = boxed_pairs(dataset, dataset.split("test"), dataset.space)
    assert (pairs["x"].list.len() > 0).all() and phantom_masks(dataset, pairs) is None
