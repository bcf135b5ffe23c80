"""A generator learns from train patients alone, goes on where it stopped, and ends as if it had not."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch

from tests.dataset.small_dataset import write_dataset
from tests.dataset.small_synthetic import write_synthetic
from tests.generate.test_folder import base_pipeline
from trcgl.core import storage
from trcgl.core.errors import CheckpointError, DataError, Interrupted, RecipeError
from trcgl.core.generator_recipe import (
    UNCHANGED,
    AutoencoderRecipe,
    ContextRecipe,
    DiffusionRecipe,
    FitRecipe,
    GeneratorRecipe,
    TextRecipe,
    UNetRecipe,
)
from trcgl.core.recipe import AugmentRecipe
from trcgl.dataset.store import open_dataset
from trcgl.generate.diffusion import noised, velocity
from trcgl.generate.folder import load
from trcgl.generate.pipeline import build
from trcgl.generate.stages import Diffusion
from trcgl.generate.train_generator import check, train_generator
from trcgl.generate.training_rows import loader, most_sampled, sampler, training_rows

RECIPE = GeneratorRecipe(
    image_size=32,
    unet=UNetRecipe(widths=(32, 32), layers=1, attention_from=1),
    text=TextRecipe(width=32, layers=1, heads=2, tokens=24),
    context=ContextRecipe(shared=1, per_finding=1),
    diffusion=DiffusionRecipe(label_dropout=0.5, log_snr_std=2.0),
    augment=AugmentRecipe(),
    fit=FitRecipe(steps=14, context_steps=4, batch_size=8, grid_every=7, save_steps=3, ema=0.9, warmup_steps=2),
)


STAGE = {"name": "network", "steps": 1, "rate": 1e-3, "trained": ()}


def but(**fit):
    return dataclasses.replace(RECIPE, fit=dataclasses.replace(RECIPE.fit, **fit))


def log(out):
    lines = (out / "training" / "network" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A generator whose training nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "generator"
    train_generator(dataset, RECIPE, out)
    return out


def test_the_folder_holds_a_generator_its_samples_and_its_logs(whole, dataset):
    info = storage.read_json(whole / "generator.json")
    train = open_dataset(dataset).split("train")
    assert info["training_patient_digest"] == storage.digest(train["patient_id"].unique().to_list())
    assert info["training_images"] == train.height
    names = {path.name for path in (whole / "samples").iterdir()}
    assert names == {"network-000007.png", "network-000014.png"}
    assert [line["step"] for line in log(whole)] == [10]


def test_the_last_stage_moves_the_context_and_nothing_else(whole):
    network = torch.load(whole / "training" / "network" / "last.ckpt", weights_only=True)["state_dict"]
    context = torch.load(whole / "training" / "context" / "last.ckpt", weights_only=True)["state_dict"]
    generator = load(whole)
    stored = {value.numpy().tobytes() for value in network.values()}
    kept = [*generator.unet.parameters(), *generator.text_encoder.parameters()]
    assert all(weight.contiguous().numpy().tobytes() in stored for weight in kept)
    assert len(context) == 2
    assert generator.context.enabled


def denoising_error(generator, dataset):
    """Mean squared error of the velocity on fixed images of val, noise and levels."""
    images = torch.from_numpy(open_dataset(dataset).images[44:68].copy())[:, None].float() / 127.5 - 1
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        latent = generator.to_latents(images)
        noise = torch.randn(latent.shape, generator=random)
        step = torch.randint(1000, (len(latent),), generator=random)
        alpha_bar = generator.scheduler.alphas_cumprod[step]
        hidden = generator.encode_empty().expand(len(latent), -1, -1)
        there = noised(latent, noise, alpha_bar)
        predicted = generator.unet(there, step, encoder_hidden_states=hidden).sample
    return float((predicted - velocity(latent, noise, alpha_bar)).square().mean())


def test_it_learns_to_denoise_images_that_it_has_not_seen(dataset, tmp_path):
    train_generator(dataset, but(steps=120, context_steps=0, grid_every=0, lr=2e-3, batch_size=16), tmp_path / "g")
    untrained = build(RECIPE, open_dataset(dataset).space)
    untrained.vae.register_to_config(scaling_factor=load(tmp_path / "g").vae.config["scaling_factor"])
    assert denoising_error(load(tmp_path / "g"), dataset) < 0.5 * denoising_error(untrained, dataset)


def test_images_are_changed_as_the_recipe_says_and_only_then(dataset):
    rows = training_rows(open_dataset(dataset))
    batch = next(iter(loader(rows, lambda _: np.arange(len(rows)), 1, 4)))

    def images(augment):
        recipe = dataclasses.replace(RECIPE, augment=augment)
        stage = Diffusion(build(recipe, open_dataset(dataset).space), recipe, rows, **STAGE)
        return stage.images(batch)

    assert torch.allclose(images(UNCHANGED), batch["image"][:, None] / 127.5 - 1, atol=1e-6)
    brighter = images(dataclasses.replace(UNCHANGED, brightness=0.2)) - images(UNCHANGED)
    assert not torch.allclose(brighter, torch.zeros(()), atol=0.01)
    assert torch.equal(images(AugmentRecipe()), images(AugmentRecipe()))


@pytest.mark.parametrize(("stage", "at"), [("network", 5), ("network", 11), ("context", 2)])
def test_training_that_was_stopped_ends_with_the_same_generator(dataset, whole, tmp_path, monkeypatch, stage, at):
    step = Diffusion.training_step

    def training_step(self, batch, batch_idx):
        if self.name == stage and batch["number"] == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Diffusion, "training_step", training_step)
        with pytest.raises(Interrupted) as stopped:
            train_generator(dataset, RECIPE, tmp_path / "g")
    assert stopped.value.signal == signal.SIGTERM
    assert not (tmp_path / "g" / "generator.json").exists()
    info = train_generator(dataset, RECIPE, tmp_path / "g")
    assert info["files"] == storage.read_json(whole / "generator.json")["files"]
    assert log(tmp_path / "g") == log(whole)


def test_training_that_was_killed_ends_with_the_same_generator(dataset, whole, tmp_path, monkeypatch):
    step = Diffusion.training_step

    def training_step(self, batch, batch_idx):
        if batch["number"] == 8:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Diffusion, "training_step", training_step)
        with pytest.raises((KeyboardInterrupt, SystemExit, Interrupted)):
            train_generator(dataset, RECIPE, tmp_path / "g")
    info = train_generator(dataset, RECIPE, tmp_path / "g")
    assert info["files"] == storage.read_json(whole / "generator.json")["files"]


def test_a_finished_generator_says_so_and_changes_nothing(dataset, whole, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    train_generator(dataset, RECIPE, whole)
    assert "is finished" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*")}


def test_another_recipe_or_dataset_is_refused(dataset, whole, tmp_path):
    with pytest.raises(RecipeError, match=r"fit.steps: 14 → 15"):
        train_generator(dataset, but(steps=15), whole)
    other = write_dataset(tmp_path / "other", seed=1)
    with pytest.raises(RecipeError, match="trained on another dataset"):
        train_generator(other, RECIPE, whole)


@pytest.mark.parametrize("split", ["val", "test"])
def test_only_train_patients_are_shown(dataset, tmp_path, split):
    with pytest.raises(DataError, match=f"train patients only, not on '{split}'"):
        train_generator(dataset, RECIPE, tmp_path / "g", split=split)
    opened = open_dataset(dataset)
    assert set(training_rows(opened).image_ids) == set(opened.split("train")["image_id"])


def test_balanced_batches_show_rare_findings_as_often_as_common_ones():
    labels = np.zeros((400, 3), np.float32)
    labels[:360, 0] = labels[360:390, 1] = labels[390:, 2] = 1
    shown = labels[np.concatenate([sampler(labels, (), FitRecipe(replay=0.0), 0)(epoch) for epoch in range(20)])]
    np.testing.assert_allclose(shown.mean(0), [1 / 3] * 3, atol=0.03)
    replayed = labels[np.concatenate([sampler(labels, (), FitRecipe(replay=0.5), 0)(epoch) for epoch in range(20)])]
    np.testing.assert_allclose(replayed.mean(0), [0.617, 0.204, 0.179], atol=0.03)


def test_half_of_the_balanced_places_go_to_the_tail():
    labels = np.zeros((1000, 4))
    labels[:900, 0] = labels[900:980, 1] = labels[980:990, 2] = labels[990:, 3] = 1
    settings = FitRecipe(replay=0.0, tail=0.5)
    shown = labels[np.concatenate([sampler(labels, (2, 3), settings, 0)(epoch) for epoch in range(20)])].mean(0)
    np.testing.assert_allclose(shown, [0.125, 0.125, 0.375, 0.375], atol=0.02)


def test_normal_radiographs_are_shown_as_often_as_a_finding_of_the_tail(dataset):
    space = open_dataset(dataset).space
    most = [space.findings[column] for column in most_sampled(space)]
    assert sorted(most) == sorted([*space.in_group("tail"), space.normal])
    without = dataclasses.replace(space, groups=dict.fromkeys(space.groups, "head"))
    assert most_sampled(without) == []


def test_a_vae_is_trained_first_where_it_is_asked_for(dataset, tmp_path):
    recipe = dataclasses.replace(
        but(steps=2, context_steps=0, grid_every=0),
        augment=UNCHANGED,
        autoencoder=AutoencoderRecipe(kind="vae", width=16, steps=150, lr=2e-3),
    )
    train_generator(dataset, recipe, tmp_path / "g")
    generator = load(tmp_path / "g")
    images = torch.from_numpy(open_dataset(dataset).images[:16].copy())[:, None].float() / 127.5 - 1
    with torch.no_grad():
        posterior = generator.vae.encode(images).latent_dist
        error = (generator.vae.decode(posterior.mode()).sample - images).abs().mean()
        assert float((posterior.mode() * generator.vae.config["scaling_factor"]).std()) == pytest.approx(1, abs=0.1)
    assert float(error) < 0.75 * float((images - images.mean()).abs().mean())


def test_label_sets_that_are_too_long_are_shortened_and_counted(dataset, tmp_path, capsys):
    recipe = dataclasses.replace(
        but(steps=1, context_steps=1, grid_every=0),
        context=ContextRecipe(placement="input", shared=1, per_finding=2),
        text=TextRecipe(width=32, layers=1, heads=2, tokens=14),  # room for two findings of three
    )
    info = train_generator(dataset, recipe, tmp_path / "g")
    labels = training_rows(open_dataset(dataset)).labels == 1
    whole = int(labels[:, :3].all(1).sum())
    assert whole
    assert info["prompts"] == {
        "views": True,
        "longest": 14,
        "label_sets": len(np.unique(labels, axis=0)),
        "shortened_label_sets": 1,
        "images": len(labels),
        "shortened_images": whole,
    }
    assert f"{whole} of {len(labels)} training images have prompts of more than 14 tokens" in capsys.readouterr().err
    generator = load(tmp_path / "g")
    assert generator.positives == dict(zip(generator.space.findings, labels.sum(0).tolist(), strict=True))
    asked = generator.prompts.prompt(["Mass", "Edema", "Hernia"], "lateral")
    assert asked.text == "lateral chest radiograph with edema and hernia"
    assert generator.encode([asked]).shape == (1, 14, 32)


def test_training_prompts_name_the_view_of_their_image(dataset, monkeypatch):
    rows = training_rows(open_dataset(dataset))
    batch = next(iter(loader(rows, lambda _: np.arange(len(rows)), 1, 8)))
    for views in (True, False):
        recipe = dataclasses.replace(RECIPE, views=views)
        stage, seen = Diffusion(build(recipe, open_dataset(dataset).space), recipe, rows, **STAGE), []
        monkeypatch.setattr(
            stage.generator, "encode", lambda asked, seen=seen: (seen.extend(asked), torch.ones(8, 1, 1))[1]
        )
        monkeypatch.setattr(stage.generator, "encode_empty", lambda: torch.ones(1, 1, 1))
        stage._hidden(batch, np.random.default_rng(0))
        named = [next((view for view in ("frontal", "lateral") if view in prompt.text), None) for prompt in seen]
        assert named == (rows.views[:8] if views else [None] * 8)


def test_a_base_keeps_its_latent_scale_unless_the_recipe_measures_it(dataset, tmp_path):
    base_pipeline().save_pretrained(tmp_path / "base")
    for keep in (True, False):
        recipe = dataclasses.replace(
            but(steps=1, context_steps=0, grid_every=0),
            base=str(tmp_path / "base"),
            unet=UNetRecipe(lora_rank=2),
            autoencoder=AutoencoderRecipe(keep_scale=keep),
        )
        train_generator(dataset, recipe, tmp_path / f"keep-{keep}")
        scale = load(tmp_path / f"keep-{keep}").vae.config["scaling_factor"]
        assert (scale == 0.18215) == keep


def test_a_base_is_adapted_by_low_rank_matrices_alone(dataset, tmp_path):
    base_pipeline().save_pretrained(tmp_path / "base")
    recipe = dataclasses.replace(
        but(steps=3, context_steps=2, grid_every=0, gradient_checkpointing=True),
        base=str(tmp_path / "base"),
        unet=UNetRecipe(lora_rank=2),
        context=ContextRecipe(placement="input", shared=1, per_finding=1),
    )
    info = train_generator(dataset, recipe, tmp_path / "g")
    before, after = base_pipeline().unet.state_dict(), load(tmp_path / "g").unet.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved and all(any(part in name for part in ("to_q", "to_k", "to_v", "to_out.0")) for name in moved)
    assert "its license applies" in info["license"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (but(steps=0), "fit.steps is 0"),
        (but(ema=1.0), "fit.ema is 1.0"),
        (but(replay=1.5), "fit.replay is 1.5"),
        (but(tail=-0.5), "fit.tail is -0.5"),
        (but(devices=0), "fit.devices is 0"),
        (dataclasses.replace(RECIPE, unet=UNetRecipe(widths=(24, 40), head_width=8)), "unet.widths .*multiples of 16"),
        (dataclasses.replace(RECIPE, autoencoder=AutoencoderRecipe(factor=0)), "autoencoder.factor is 0"),
        (dataclasses.replace(RECIPE, text=TextRecipe(width=32, heads=3)), "text.heads is 3"),
        (dataclasses.replace(RECIPE, context=ContextRecipe(shared=-1)), "context.shared is -1"),
        (dataclasses.replace(RECIPE, diffusion=DiffusionRecipe(log_snr_std=-1.0)), "diffusion.log_snr_std is -1.0"),
        (dataclasses.replace(RECIPE, augment=AugmentRecipe(mixup=0.4)), "augment.mixup is 0.4.*would be mixtures"),
        (dataclasses.replace(RECIPE, augment=AugmentRecipe(erasing=0.1)), "augment.erasing is 0.1.*erased rectangles"),
        (dataclasses.replace(RECIPE, unet=UNetRecipe(lora_rank=4)), "unet.lora_rank is 4.*without a --base"),
    ],
)
def test_settings_that_make_no_sense_are_named(recipe, message):
    with pytest.raises(RecipeError, match=message):
        check(recipe)


def test_a_prompt_leaves_out_common_findings_but_never_one_of_the_tail(dataset, monkeypatch):
    space = open_dataset(dataset).space
    tail, others = set(space.in_group("tail")), set(space.findings) - set(space.in_group("tail")) - {space.normal}
    assert tail and others
    recipe = dataclasses.replace(RECIPE, diffusion=DiffusionRecipe(label_dropout=1.0))
    generator = build(recipe, space)
    module = Diffusion(
        generator=generator,
        recipe=recipe,
        rows=training_rows(open_dataset(dataset)),
        name="n",
        steps=1,
        rate=0.1,
        trained=(),
    )
    named = []
    encode = generator.encode
    monkeypatch.setattr(generator, "encode", lambda prompts: named.extend(prompts) or encode(prompts))
    label = torch.tensor([[float(finding != space.normal) for finding in space.findings]] * 40)
    batch = {"of": 40, "slot": torch.arange(40), "row": torch.zeros(40, dtype=torch.int64), "label": label}
    module._hidden(batch, np.random.default_rng(0))
    named = [set(text.findings) for text in named if text.findings]
    assert len(named) >= 40
    assert all(tail <= findings for findings in named)
    assert any(not others <= findings for findings in named)


def test_what_is_refused_leaves_the_folder_to_the_corrected_command(dataset, tmp_path):
    short = but(steps=1, context_steps=0, grid_every=0)
    long = dataclasses.replace(short, text=dataclasses.replace(RECIPE.text, tokens=6))
    with pytest.raises(DataError, match="prompt"):  # before training, not in the batch with the long prompt
        train_generator(dataset, long, tmp_path / "g")
    with pytest.raises(CheckpointError, match="no-such-base"):
        train_generator(dataset, dataclasses.replace(short, base=str(tmp_path / "no-such-base")), tmp_path / "g")
    assert not (tmp_path / "g").exists()
    vae = AutoencoderRecipe(kind="vae", width=16, steps=1, features=str(tmp_path / "no-such-run"))
    with pytest.raises(CheckpointError, match="no-such-run"):
        train_generator(dataset, dataclasses.replace(short, autoencoder=vae), tmp_path / "g")
    train_generator(dataset, short, tmp_path / "g")


def test_a_generator_that_has_seen_patients_of_val_is_no_base(whole, tmp_path):
    other = write_dataset(tmp_path / "other", train=40)
    with pytest.raises(DataError, match="was trained on 2 of the 24 patients in val and test"):
        train_generator(other, dataclasses.replace(RECIPE, base=str(whole)), tmp_path / "g")


def test_synthetic_images_are_refused(dataset, tmp_path):
    synthetic = write_synthetic(tmp_path / "synthetic", dataset, targets={"Hernia": 4})
    with pytest.raises(DataError, match="holds synthetic images"):
        train_generator(synthetic, RECIPE, tmp_path / "g")


def test_a_loss_that_is_not_finite_stops_and_names_the_images(dataset, tmp_path):
    with pytest.raises(
        RecipeError, match=r"training diverged after step \d+.*on the images .*stage network .*lower --fit.lr"
    ):
        train_generator(dataset, but(steps=30, lr=1e30, warmup_steps=0, clip_gradient=0.0), tmp_path / "g")
