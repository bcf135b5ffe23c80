"""A conditional DCGAN replaces the images of a synthetic folder and keeps its rows."""

import signal
import threading

import numpy as np
import polars as pl
import pytest
import torch

from tests.dataset.small_dataset import small_recipe, write_dataset
from tests.dataset.small_synthetic import write_synthetic
from trcgl.core import storage
from trcgl.core.errors import DataError, Interrupted
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import open_synthetic, read_provenance
from trcgl.generate.training_rows import training_rows
from trcgl.study.experiments import dcgan as module
from trcgl.study.experiments.dcgan import (
    Dcgan,
    DcganDiscriminator,
    DcganGenerator,
    DcganSettings,
    sample_with_dcgan,
    sampled_side,
)
from trcgl.study.peers import PEERS
from trcgl.study.plan import Plan, against_baseline, comparable
from trcgl.study.study import study
from trcgl.study.worker import held

TINY = DcganSettings(width=4, noise=8, steps=20, batch_size=8, rate=2e-3)
BASE = small_recipe(epochs=1, ema=0.0)


@pytest.fixture
def folders(tmp_path):
    data = write_dataset(tmp_path / "data")
    return open_dataset(data), write_synthetic(tmp_path / "synthetic", data, rejected=(2, 5))


def dcgan_images(folder, real, synthetic, base=BASE, settings=TINY):
    sample_with_dcgan(synthetic, real, folder, base, settings)
    return np.load(folder / "images.npy")


@pytest.mark.parametrize("side", [32, 40, 48, 56, 64, 96, 224, 256])
def test_both_networks_fit_every_side_that_can_be_sampled(side):
    assert sampled_side(side) == side
    labels = torch.eye(3)
    image = DcganGenerator(3, side, 2, 5)(torch.randn(3, 5), labels)
    assert image.shape == (3, 1, side, side) and image.abs().max() <= 1
    first, other, again = DcganDiscriminator(3, side, 2)(image, labels, labels.flip(0), labels)
    assert first.shape == other.shape == (3,) and torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(("side", "sampled"), [(33, 32), (50, 48), (100, 96), (300, 256), (255, 224), (512, 256)])
def test_another_side_is_sampled_at_the_next_smaller_one(side, sampled):
    assert sampled_side(side) == sampled


def test_rows_targets_verdicts_and_provenance_stay_and_images_are_new(folders, tmp_path):
    real, synthetic = folders
    images = dcgan_images(tmp_path / "dcgan", real, synthetic)
    before, after = open_synthetic(synthetic, real), open_synthetic(tmp_path / "dcgan", real)
    assert after.rows.equals(before.rows) and after.targets.equals(before.targets)
    table = [read_provenance(folder) for folder in (synthetic, tmp_path / "dcgan")]
    assert table[0].equals(table[1]) and after.dataset.manifest.equals(before.dataset.manifest)
    assert images.shape == before.dataset.images.shape and images.dtype == np.uint8
    assert len(np.unique(images, axis=0)) == len(images)
    for dose in (0.0, 0.3):
        both = [open_synthetic(folder, real, dose).rows["image_id"] for folder in (synthetic, tmp_path / "dcgan")]
        assert both[0].equals(both[1])


def test_the_same_seed_gives_the_same_images_and_another_does_not(folders, tmp_path):
    real, synthetic = folders
    torch.manual_seed(1)
    sampled = dcgan_images(tmp_path / "one", real, synthetic)
    torch.manual_seed(2)
    assert (dcgan_images(tmp_path / "again", real, synthetic) == sampled).all()
    other = dcgan_images(tmp_path / "other", real, synthetic, small_recipe(epochs=1, ema=0.0, batch_size=4))
    assert (other == sampled).all()  # only its hardware and seed are the base's
    assert (dcgan_images(tmp_path / "seed", real, synthetic, PEERS["trcgl"].recipe(BASE, 1)) != sampled).any()


def test_an_image_does_not_depend_on_those_beside_it(folders):
    network = Dcgan(training_rows(folders[0]), 32, TINY, seed=0).eval()
    labels = np.eye(4, dtype=np.float32)
    together = network.sample(labels, list("abcd"))
    alone = np.concatenate([network.sample(labels[[place]], ["abcd"[place]]) for place in range(4)])
    assert np.abs(together.astype(int) - alone).max() <= 1


def test_only_train_rows_are_learned_from(folders, tmp_path):
    real, synthetic = folders
    sampled = dcgan_images(tmp_path / "one", real, synthetic)
    images = np.load(real.folder / "images.npy")
    outside = real.manifest.filter(pl.col("split") != "train")["row"].to_numpy()
    images[outside] = 255
    np.save(real.folder / "images.npy", images)
    assert (dcgan_images(tmp_path / "outside", open_dataset(real.folder), synthetic) == sampled).all()
    images[real.split("train")["row"].to_numpy()] = 255
    np.save(real.folder / "images.npy", images)
    assert (dcgan_images(tmp_path / "inside", open_dataset(real.folder), synthetic) != sampled).any()


def test_both_networks_learn(folders, tmp_path):
    rows = training_rows(folders[0])
    before = Dcgan(rows, 32, TINY, BASE.seed)
    after = module.train_dcgan(rows, 32, TINY, BASE, tmp_path / "training")
    for name in ("generator", "discriminator"):
        weights = [dict(getattr(networks, name).named_parameters()) for networks in (before, after)]
        assert all(not torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_a_finding_that_is_requested_is_visible(tmp_path):
    """A finding of the small dataset is a bright bar at a place of its own."""
    rows = training_rows(open_dataset(write_dataset(tmp_path / "data", train=400)))
    settings = DcganSettings(width=8, noise=8, steps=300, batch_size=16, rate=1e-3)
    network = module.train_dcgan(rows, 32, settings, BASE, tmp_path / "training")
    labels = np.repeat(np.eye(4, dtype=np.float32)[:3], 8, axis=0)
    images = network.sample(labels, [str(number) for number in range(len(labels))]).reshape(3, 8, 32, 32)
    bars = np.stack([images[:, :, 4 + 8 * place : 10 + 8 * place, 6:26].mean((1, 2, 3)) for place in range(3)], axis=1)
    assert np.diag(bars).mean() > bars[~np.eye(3, dtype=bool)].mean() + 20


def test_a_finished_folder_is_not_made_again(folders, tmp_path, monkeypatch):
    real, synthetic = folders
    dcgan_images(tmp_path / "dcgan", real, synthetic)
    then = (tmp_path / "dcgan" / "images.npy").stat().st_mtime_ns
    monkeypatch.setattr(module, "train_dcgan", None)
    dcgan_images(tmp_path / "dcgan", real, synthetic)
    assert (tmp_path / "dcgan" / "images.npy").stat().st_mtime_ns == then


def test_one_process_makes_the_folder_while_another_waits(folders, tmp_path, monkeypatch):
    real, synthetic = folders
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    waiting = threading.Thread(target=dcgan_images, args=(tmp_path / "dcgan", real, synthetic), daemon=True)
    with held(tmp_path / "dcgan.lock"):
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and not (tmp_path / "dcgan").exists()
    waiting.join(60)
    assert (tmp_path / "dcgan" / "dataset.json").exists()


def test_interrupted_training_continues_to_the_same_images(folders, tmp_path, monkeypatch):
    real, synthetic = folders
    whole = dcgan_images(tmp_path / "whole", real, synthetic)
    step = Dcgan.training_step

    def stopped(self, batch, batch_idx):
        if batch_idx == 1:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Dcgan, "training_step", stopped)
    with pytest.raises(Interrupted):
        dcgan_images(tmp_path / "torn", real, synthetic)
    assert not (tmp_path / "torn" / "dataset.json").exists()
    monkeypatch.setattr(Dcgan, "training_step", step)
    assert (dcgan_images(tmp_path / "torn", real, synthetic) == whole).all()


def test_a_folder_of_another_dataset_is_refused(folders, tmp_path):
    other = open_dataset(write_dataset(tmp_path / "other", seed=1))
    with pytest.raises(DataError, match="generated for another dataset"):
        dcgan_images(tmp_path / "dcgan", other, folders[1])
    assert not (tmp_path / "dcgan").exists()


def test_the_arm_trains_with_the_images_of_the_dcgan(folders, tmp_path, monkeypatch):
    real, synthetic = folders
    monkeypatch.setattr(module, "DcganSettings", lambda: TINY)
    arms = tuple(PEERS[name] for name in ("linear", "dcgan"))
    plan = Plan("peers", real.folder, comparable(BASE), arms, against_baseline(arms, "linear", None), 1, synthetic)
    table = study(plan, tmp_path / "study")
    assert table["arms"]["dcgan"]["seeds"] == [0]
    used = storage.read_json(tmp_path / "study" / "runs" / "dcgan" / "seed-0" / "run.json")["synthetic"]
    assert used["folder"].endswith("/dcgan") and used["rows"] == 14
