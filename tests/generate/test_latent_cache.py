"""Latents of a frozen autoencoder are encoded once, whatever interrupts it, and train like newly encoded latents."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.dataset.small_dataset import write_dataset
from tests.generate.test_folder import base_pipeline
from trcgl.core.errors import DataError
from trcgl.core.generator_recipe import (
    AutoencoderRecipe,
    ContextRecipe,
    FitRecipe,
    GeneratorRecipe,
    TextRecipe,
    UNetRecipe,
)
from trcgl.core.recipe import AugmentRecipe, from_json, to_json
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import read_provenance
from trcgl.generate import autoencoder, latent_cache, train_generator
from trcgl.generate.autoencoder import build_autoencoder, decode, encode
from trcgl.generate.folder import load
from trcgl.generate.synthesize import SynthesizeOptions, synthesize
from trcgl.generate.training_rows import training_rows

VAE = AutoencoderRecipe(kind="vae", width=16, steps=0, factor=4)
RECIPE = GeneratorRecipe(
    image_size=32,
    autoencoder=VAE,
    unet=UNetRecipe(widths=(32, 32), layers=1, attention_from=1),
    text=TextRecipe(width=32, layers=1, heads=2, tokens=24),
    context=ContextRecipe(shared=1, per_finding=1),
    fit=FitRecipe(steps=4, context_steps=2, batch_size=6, grid_every=0, save_steps=0, ema=0.0, warmup_steps=2),
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(latent_cache, "_IMAGES_PER_PART", 16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small", train=50)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A generator that was trained on cached latents."""
    out = tmp_path_factory.mktemp("whole") / "generator"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_cache, "_IMAGES_PER_PART", 16)
        train_generator.train_generator(dataset, RECIPE, out)
    return out


@pytest.fixture
def encoded(monkeypatch):
    """Number of images of every encoded batch."""
    counts, of = [], latent_cache.encode

    def counted(vae, images):
        counts.append(len(images))
        return of(vae, images)

    monkeypatch.setattr(latent_cache, "encode", counted)
    return counts


def weights(folder):
    generator = load(folder)
    return torch.cat([weight.flatten() for weight in generator.unet.parameters()])


def test_cached_latents_train_as_latents_encoded_at_every_step(whole, dataset, tmp_path):
    plain = dataclasses.replace(RECIPE, autoencoder=dataclasses.replace(VAE, cache_latents=False))
    train_generator.train_generator(dataset, plain, tmp_path / "generator")
    first, second = weights(whole), weights(tmp_path / "generator")
    torch.testing.assert_close(first, second, atol=2e-3, rtol=0)
    assert not (whole / "training" / "latents").exists()


def test_an_interrupted_run_encodes_no_image_twice_and_ends_with_the_same_weights(
    whole, dataset, tmp_path, monkeypatch, encoded
):
    def stop(cache, vae, rows, rank=0, processes=1):
        work = cache.encode(vae, rows, rank, processes)
        for _ in range(20):  # the second part is not finished
            next(work)
        raise RuntimeError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("trcgl.generate.stages.encode_missing", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            train_generator.train_generator(dataset, RECIPE, tmp_path / "generator")
    folder = tmp_path / "generator" / "training" / "latents"
    assert sorted(path.name for path in folder.iterdir()) == ["latents.json", "part-000000.npy"]
    assert encoded == [16, 16]
    train_generator.train_generator(dataset, RECIPE, tmp_path / "generator")
    assert sum(encoded[2:]) == 50 - 16
    assert torch.equal(weights(whole), weights(tmp_path / "generator"))


def test_workers_change_no_bit(whole, dataset, tmp_path):
    recipe = dataclasses.replace(RECIPE, fit=dataclasses.replace(RECIPE.fit, workers=2))
    train_generator.train_generator(dataset, recipe, tmp_path / "generator")
    assert torch.equal(weights(whole), weights(tmp_path / "generator"))


def cache_of(dataset, folder, recipe=RECIPE):
    vae = build_autoencoder(recipe.autoencoder)
    rows = training_rows(open_dataset(dataset))
    return vae, rows, latent_cache.latent_cache(folder, vae, recipe, "digest", len(rows), first=True)


def test_the_cache_holds_mean_and_standard_deviation_of_every_row(dataset, tmp_path):
    vae, rows, cache = cache_of(dataset, tmp_path)
    latent_cache.encode_missing(cache, vae, rows)
    wanted = np.array([49, 3, 17, 3])
    with torch.no_grad():
        images = torch.from_numpy(rows.pixels(wanted))[:, None].float() / 127.5 - 1
        expected = encode(vae, images)
    found = torch.from_numpy(cache.read(wanted)).float()
    torch.testing.assert_close(found[:, 0], expected.mean, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(found[:, 1], expected.std, atol=2e-3, rtol=2e-3)
    assert cache.bytes == sum(np.load(path).nbytes for path in tmp_path.glob("part-*"))


def test_a_base_is_adapted_on_its_cached_latents_and_starts_from_real_images(dataset, tmp_path, encoded):
    base_pipeline().save_pretrained(tmp_path / "base")
    recipe = dataclasses.replace(RECIPE, base=str(tmp_path / "base"), unet=UNetRecipe(lora_rank=2))
    train_generator.train_generator(dataset, recipe, tmp_path / "generator")
    assert sum(encoded) == 50  # once for both stages
    options = SynthesizeOptions(each=2, steps=4, accelerator="cpu", from_real=True, strength=0.5, unscreened=True)
    synthesize(tmp_path / "generator", dataset, None, tmp_path / "synthetic", options)
    assert read_provenance(tmp_path / "synthetic")["pixel_source_image"].null_count() == 0


def test_parts_are_shared_among_processes(dataset, tmp_path):
    vae, rows, cache = cache_of(dataset, tmp_path)
    latent_cache.encode_missing(cache, vae, rows, rank=1, processes=2)
    assert cache.parts.missing() == [0, 2]
    latent_cache.encode_missing(cache, vae, rows, rank=0, processes=2)
    assert cache.parts.missing() == []


def test_latents_of_another_autoencoder_are_encoded_again(dataset, tmp_path):
    vae, rows, cache = cache_of(dataset, tmp_path)
    latent_cache.encode_missing(cache, vae, rows)
    latent_cache.latent_cache(tmp_path, vae, RECIPE, "digest", len(rows), first=True)
    assert cache.parts.missing() == []
    with torch.no_grad():
        next(vae.parameters()).add_(1)
    latent_cache.latent_cache(tmp_path, vae, RECIPE, "digest", len(rows), first=True)
    assert len(cache.parts.missing()) == len(cache.parts)


@pytest.mark.parametrize(
    "changed",
    [
        {"autoencoder": AutoencoderRecipe(factor=4)},
        {"autoencoder": dataclasses.replace(VAE, cache_latents=False)},
        {"augment": AugmentRecipe()},
    ],
)
def test_nothing_is_cached_that_would_not_be_exact_or_not_pay(dataset, tmp_path, changed):
    assert cache_of(dataset, tmp_path / "latents", dataclasses.replace(RECIPE, **changed))[2] is None
    assert not (tmp_path / "latents").exists()


def test_a_disk_that_is_too_small_is_refused_before_the_first_image(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(latent_cache.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match=r"latents of 50 training images need .*--autoencoder.no-cache-latents"):
        cache_of(dataset, tmp_path)


def test_a_stored_recipe_encodes_at_every_step_as_it_did():
    stored = json.loads(to_json(RECIPE))
    del stored["autoencoder"]["cache_latents"]
    assert from_json(json.dumps(stored), GeneratorRecipe).autoencoder.cache_latents is False
    assert from_json(to_json(RECIPE), GeneratorRecipe).autoencoder.cache_latents is True


@pytest.mark.parametrize("recipe", [VAE, AutoencoderRecipe(factor=4)])
def test_slices_change_no_image(recipe, monkeypatch):
    vae, images = build_autoencoder(recipe).eval(), torch.rand(5, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        whole = encode(vae, images)
        decoded = decode(vae, whole.mode())
        monkeypatch.setattr(autoencoder, "PIXELS", 2 * 32 * 32)
        sliced = encode(vae, images)
        torch.testing.assert_close(sliced.mode(), whole.mode(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(decode(vae, sliced.mode()), decoded, atol=1e-5, rtol=1e-4)
        torch.manual_seed(3)
        first = whole.sample()
        torch.manual_seed(3)
        torch.testing.assert_close(sliced.sample(), first, atol=1e-5, rtol=1e-4)


def test_slices_are_bounded_by_pixels(monkeypatch):
    vae, seen = build_autoencoder(VAE).eval(), []
    monkeypatch.setattr(autoencoder, "PIXELS", 2 * 32 * 32)
    for name in ("encode", "decode"):
        of = getattr(vae, name)
        monkeypatch.setattr(vae, name, lambda part, of=of: seen.append(len(part)) or of(part))
    with torch.no_grad():
        decode(vae, encode(vae, torch.zeros(5, 1, 32, 32)).mode())
    assert seen == [2, 2, 1, 2, 2, 1]
