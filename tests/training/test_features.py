"""A frozen backbone: features are computed once, and the head learns from them."""

import os
import signal

import numpy as np
import pytest
import torch

from tests.dataset.small_dataset import small_recipe, write_dataset
from tests.dataset.small_synthetic import write_synthetic
from trcgl.core.errors import DataError, Interrupted, RecipeError
from trcgl.core.recipe import overridden
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import open_synthetic
from trcgl.model.folder import load_model
from trcgl.model.tensors import pool_to_grid
from trcgl.training import features
from trcgl.training.train import train


def frozen(epochs=2, **changes):
    plain = {"augment.erasing": 0.0, "augment.rotation": 0.0, "model.drop_path": 0.0, "train.frozen_backbone": True}
    return overridden(small_recipe(epochs=epochs), {**plain, **changes})


def weights_of(run):
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture
def passes(monkeypatch):
    """Number of images in each forward pass of the backbone over stored images."""
    counted = []
    compute = features._features

    def counting(network, images, recipe):
        counted.append(len(images))
        return compute(network, images, recipe)

    monkeypatch.setattr(features, "_features", counting)
    return counted


def test_the_head_learns_and_the_backbone_stays(dataset, tmp_path, capsys):
    info = train(dataset, frozen(), tmp_path / "run")
    assert info["best"]["val/mAP"] > 0.3
    assert not (tmp_path / "run" / "features").exists()
    said = capsys.readouterr().err
    assert "without augmentation" in said and "features of 68 images" in said and "GB in" in said
    other = train(dataset, frozen(**{"train.head_lr": 1e-2}), tmp_path / "other")
    first, second = (load_model(tmp_path / run).network for run in ("run", "other"))
    assert all(map(torch.equal, first.backbone.state_dict().values(), second.backbone.state_dict().values()))
    assert other["best"] != info["best"]


def test_the_cache_holds_the_features_of_train_and_val_and_other_heads_share_it(dataset, tmp_path, passes):
    shared = str(tmp_path / "cache")
    train(dataset, frozen(**{"train.features": shared}), tmp_path / "first")
    assert sum(passes) == 1 + 68  # the first image tells the size
    cached = np.load(next((tmp_path / "cache").glob("*/features.npy")))
    network = load_model(tmp_path / "first").network
    images = torch.from_numpy(open_dataset(dataset).images[:68])[:, None].float() / 255
    with torch.no_grad():
        expected = network.backbone_features(images).half().numpy()
    np.testing.assert_allclose(cached, expected, rtol=2e-3, atol=2e-3)
    train(dataset, frozen(**{"train.features": shared, "model.head": "linear"}), tmp_path / "second")
    assert sum(passes) == 2 + 68
    train(dataset, frozen(**{"train.features": shared, "seed": 1}), tmp_path / "other weights")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_synthetic_images_are_cached_beside_the_real_ones_and_the_head_learns_from_them(dataset, tmp_path):
    generated = write_synthetic(tmp_path / "generated", dataset, rejected=(1, 9))
    recipe = frozen(**{"train.features": str(tmp_path / "cache")})
    train(dataset, recipe, tmp_path / "real")
    train(dataset, recipe, tmp_path / "both", generated)
    network = load_model(tmp_path / "both").network
    opened = open_synthetic(generated, open_dataset(dataset))
    kept = opened.rows["row"].sort().to_numpy()
    images = torch.from_numpy(opened.dataset.images[kept])[:, None].float() / 255
    with torch.no_grad():
        expected = network.backbone_features(images).half().numpy()
    cached = {len(array): array for array in map(np.load, (tmp_path / "cache").glob("*/features.npy"))}
    assert sorted(cached) == sorted([68, len(kept)])
    np.testing.assert_allclose(cached[len(kept)], expected, rtol=2e-3, atol=2e-3)
    of_real = load_model(tmp_path / "real").network.head.state_dict()
    assert not all(map(torch.equal, of_real.values(), network.head.state_dict().values()))


def test_validation_scores_are_those_of_the_whole_network(dataset, tmp_path):
    info = train(dataset, frozen(epochs=1, **{"train.ema": 0.0}), tmp_path / "run")
    from trcgl.training.validation import validation_metrics

    opened, model = open_dataset(dataset), load_model(tmp_path / "run")
    rows = opened.split("val")
    truth = rows.select(opened.space.findings).to_numpy().astype(float)
    logits = model.logits(opened.images[rows["row"]])
    metrics = validation_metrics(truth, logits, np.ones(rows.height), opened.space)
    assert metrics["val/mAP"] == pytest.approx(info["best"]["val/mAP"], abs=0.02)


def test_a_signal_keeps_what_is_done_and_the_run_ends_with_the_same_weights(dataset, tmp_path, passes, monkeypatch):
    train(dataset, frozen(), tmp_path / "whole")
    computed = sum(passes)
    passes.clear()
    compute = features._features

    def interrupting(network, images, recipe):
        if len(passes) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(network, images, recipe)

    monkeypatch.setattr(features, "_features", interrupting)
    with pytest.raises(Interrupted, match="stopped after the features of 32 of 68 images"):
        train(dataset, frozen(), tmp_path / "parts")
    monkeypatch.setattr(features, "_features", compute)
    train(dataset, frozen(), tmp_path / "parts")
    assert sum(passes) == computed + 1  # the first image tells the size again
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")


def test_a_full_disk_is_refused_with_a_smaller_grid(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: _Usage())
    with pytest.raises(DataError, match=r"take .* GB, and 0.00 GB are free\. Give --model\.feature-grid 1"):
        train(dataset, frozen(), tmp_path / "run")


class _Usage:
    free = 10


def test_several_devices_are_refused(dataset, tmp_path):
    with pytest.raises(RecipeError, match=r"one process.*--train\.devices 1"):
        train(dataset, frozen(**{"train.devices": 2}), tmp_path / "run")


def test_a_pooled_grid_is_part_of_the_model(dataset, tmp_path):
    train(dataset, frozen(**{"model.feature_grid": 1}), tmp_path / "run")
    assert load_model(tmp_path / "run").network.features(torch.rand(1, 1, 32, 32)).shape[2:] == (1, 1)


@pytest.mark.parametrize(("side", "grid"), [(37, 7), (14, 7), (7, 5), (3, 8)])
def test_the_mean_of_pooled_cells_is_the_mean_of_the_map(side, grid):
    feature = torch.rand(2, 3, side, side)
    pooled = pool_to_grid(feature, grid)
    assert pooled.shape == (2, 3, min(side, grid), min(side, grid))
    torch.testing.assert_close(pooled.mean((2, 3)), feature.mean((2, 3)))
    if side % grid == 0:
        torch.testing.assert_close(pooled, torch.nn.functional.avg_pool2d(feature, side // grid))
