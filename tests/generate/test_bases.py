"""A base generates as its own pipeline does before it is trained, learns by LoRA, and is refused if of another kind."""

import dataclasses
import json
import math
import shutil

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusionPipeline

from tests.dataset.small_dataset import SPACE, write_dataset
from tests.generate.pipelines import FORMS, SCALE, small_pipeline
from trcgl.core.errors import CheckpointError, DataError
from trcgl.core.generator_recipe import ContextRecipe, FitRecipe, GeneratorRecipe, TextRecipe, UNetRecipe
from trcgl.core.storage import read_json
from trcgl.dataset.store import open_dataset
from trcgl.generate import diffusion, folder, solver
from trcgl.generate.train_generator import train_generator

PREDICTS = {"sd15": "epsilon", "sd21": "v_prediction", "roentgen": "epsilon"}
RECIPE = GeneratorRecipe(
    image_size=32,
    unet=UNetRecipe(lora_rank=4),
    context=ContextRecipe(placement="input", shared=1, per_finding=1),
    fit=FitRecipe(
        steps=40, context_steps=4, batch_size=8, lr=1e-2, ema=0.0, warmup_steps=2, grid_every=0, save_steps=0
    ),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a pipeline of each form, written by diffusers."""
    parent = tmp_path_factory.mktemp("bases")
    for form in FORMS:
        small_pipeline(form).save_pretrained(parent / form, safe_serialization=True)
    return parent


def opened(saved, form, placement="none"):
    recipe = dataclasses.replace(RECIPE, base=str(saved / form), context=ContextRecipe(placement=placement))
    generator = folder.load_base(recipe, SPACE)
    generator.views = True
    return generator


@pytest.mark.parametrize("name", ["dpm++2m", "ddim"])
@pytest.mark.parametrize("form", FORMS)
def test_a_base_generates_what_the_pipeline_of_diffusers_generates(saved, form, name):
    generator = opened(saved, form)
    wording = generator.prompts
    prompts = [wording.prompt(findings, "frontal") for findings in (["Hernia", "Mass"], ["Edema"], ["Normal"])]
    noise = solver.starts(generator, [1, 2, 3])
    with torch.no_grad():
        condition, empty = generator.encode(prompts), generator.encode_empty()
        latents = solver.denoise(generator, condition, empty, noise, 6, 4.0, name, math.inf, None, 1.0)
        images = generator.from_latents(latents)

    pipeline = StableDiffusionPipeline.from_pretrained(saved / form)
    pipeline.set_progress_bar_config(disable=True)
    own = pipeline.scheduler.config
    assert own["prediction_type"] == PREDICTS[form]
    pipeline.scheduler = solver._scheduler(generator, name, 6, 1.0)
    how = {"timesteps": pipeline.scheduler.timesteps.tolist()} if name == "dpm++2m" else {"num_inference_steps": 6}
    expected = pipeline(
        [prompt.text for prompt in prompts], latents=noise, guidance_scale=4.0, output_type="latent", **how
    ).images
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        decoded = pipeline.vae.decode(expected / SCALE).sample
    torch.testing.assert_close(images, decoded, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_base_keeps_its_scale_its_prediction_type_and_its_schedule(saved, form):
    generator, own = opened(saved, form), StableDiffusionPipeline.from_pretrained(saved / form)
    assert generator.vae.config["scaling_factor"] == SCALE
    assert generator.scheduler.config["prediction_type"] == PREDICTS[form]
    assert torch.equal(generator.scheduler.alphas_cumprod, own.scheduler.alphas_cumprod)
    assert generator.text_encoder.config.hidden_act == ("quick_gelu" if form == "sd15" else "gelu")
    text = "lateral chest radiograph with hernia, mass and edema"
    ids = own.tokenizer(text, padding="max_length", max_length=77).input_ids
    assert generator.ids(generator.prompts.prompt(["Hernia", "Mass", "Edema"], "lateral")) == ids
    assert ids[-1] == own.tokenizer.convert_tokens_to_ids("<|endoftext|>" if form == "sd15" else "!")


def test_an_autoencoder_with_a_shift_keeps_it(saved):
    generator = opened(saved, "sd15")
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.manual_seed(0)
        plain = generator.to_latents(images) / SCALE
        for config, expected in (
            ({"shift_factor": 0.5}, (plain - 0.5) * SCALE),
            ({"latents_mean": [0.5] * 4, "latents_std": [2.0] * 4}, (plain - 0.5) / 2 * SCALE),
        ):
            generator.vae.register_to_config(**config)
            torch.manual_seed(0)
            found = generator.to_latents(images)
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(generator.from_latents(found), generator.vae.decode(plain).sample)


@pytest.mark.parametrize("form", FORMS)
def test_low_rank_adaptation_lowers_the_loss_of_a_base(saved, form, tmp_path):
    dataset = write_dataset(tmp_path / "small")
    recipe = dataclasses.replace(RECIPE, base=str(saved / form))
    info = train_generator(dataset, recipe, tmp_path / "g")
    adapted, base = folder.load(tmp_path / "g"), opened(saved, form, "none")
    assert adapted.vae.config["scaling_factor"] == SCALE
    assert adapted.scheduler.config["prediction_type"] == PREDICTS[form]
    assert info["prompts"]["shortened_images"] == 0
    assert loss(adapted, dataset) < 0.97 * loss(base, dataset)


def loss(generator, dataset):
    """Mean squared error of the prediction on val images with fixed noise and levels."""
    images = torch.from_numpy(open_dataset(dataset).images[44:68].copy())[:, None].float() / 127.5 - 1
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    with torch.no_grad():
        latent = generator.to_latents(images)
        noise = torch.randn(latent.shape, generator=random)
        step = torch.randint(1000, (len(latent),), generator=random)
        alpha_bar = generator.scheduler.alphas_cumprod[step]
        hidden = generator.encode_empty().expand(len(latent), -1, -1)
        predicted = generator.unet(
            diffusion.noised(latent, noise, alpha_bar), step, encoder_hidden_states=hidden
        ).sample
        target = diffusion.target(latent, noise, alpha_bar, generator.scheduler.config["prediction_type"])
    return float((predicted - target).square().mean())


def edited(base, file, **changes):
    path = base / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return base


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            "model_index.json",
            {"text_encoder_2": ["transformers", "CLIPTextModel"]},
            "part text_encoder_2",
        ),
        ("model_index.json", {"unet": [None, None]}, "names no unet"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderTiny"]}, "its vae is a AutoencoderTiny"),
        ("model_index.json", {"tokenizer": ["transformers", "T5Tokenizer"]}, "its tokenizer is a T5Tokenizer"),
        ("unet/config.json", {"time_cond_proj_dim": 8}, "time_cond_proj_dim"),
    ],
)
def test_a_base_of_another_kind_is_refused_with_the_part(tmp_path, file, changes, message):
    small_pipeline("sd15").save_pretrained(tmp_path / "base")
    edited(tmp_path / "base", file, **changes)
    with pytest.raises(CheckpointError, match=message):
        opened(tmp_path, "base")


def test_a_base_whose_noise_is_no_schedule_of_betas_is_refused(tmp_path):
    pipeline = small_pipeline("sd15")
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler()
    pipeline.save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="FlowMatchEulerDiscreteScheduler has no schedule of betas"):
        opened(tmp_path, "base")


def small_training(dataset, out, base=None):
    """Train a generator for one step; from a base without LoRA."""
    recipe = GeneratorRecipe(
        base=None if base is None else str(base),
        image_size=32,
        unet=UNetRecipe(widths=(32, 32), layers=1, attention_from=1),
        text=TextRecipe(width=32, layers=1, heads=2, tokens=24),
        context=ContextRecipe(shared=1, per_finding=1),
        fit=FitRecipe(steps=1, context_steps=0, batch_size=4, grid_every=0),
    )
    return train_generator(dataset, recipe, out)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A generator of another dataset, whose patients are named otherwise."""
    folder = tmp_path_factory.mktemp("other")
    dataset = write_dataset(folder / "other", seed=1)
    assert small_training(dataset, folder / "g")["base"] == {"kind": "none"}
    return folder / "g"


def test_a_generator_of_other_patients_is_an_external_base(other, tmp_path):
    dataset = write_dataset(tmp_path / "small")
    base = small_training(dataset, tmp_path / "g", other)["base"]
    assert (base["kind"], base["sources"], base["patients"]) == ("external", ["table"], 22)
    assert base["digest"] == read_json(other / "generator.json")["digest"]
    groups = read_json(tmp_path / "g" / "training_patients.json")["groups"]
    assert [len(group["patients"]) for group in groups] == [22, 22]
    assert small_training(dataset, tmp_path / "again", tmp_path / "g")["base"]["kind"] == "own"


def test_a_generator_that_has_seen_evaluated_patients_is_no_base(other, tmp_path):
    moved = write_dataset(tmp_path / "moved", seed=1, train=24, val=44)  # ten patients went from train to val
    with pytest.raises(DataError, match="trained on 10 of the 34 patients in val and test"):
        small_training(moved, tmp_path / "g", other)


def test_a_generator_without_recorded_patients_is_no_base_for_another_dataset(other, tmp_path):
    shutil.copytree(other, tmp_path / "older")
    (tmp_path / "older" / "training_patients.json").unlink()
    with pytest.raises(DataError, match="has no training_patients.json"):
        small_training(write_dataset(tmp_path / "small"), tmp_path / "g", tmp_path / "older")
