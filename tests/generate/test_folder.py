"""Generator folders are whole or refused, open bit for bit, and are pipelines that diffusers opens too."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from tests.dataset.small_dataset import SPACE
from tests.generate.small_generator import small_generator
from trcgl.core.errors import CheckpointError, DataError, RecipeError
from trcgl.core.generator_recipe import ContextRecipe, GeneratorRecipe, UNetRecipe
from trcgl.generate import folder
from trcgl.generate.context import ContextTokens
from trcgl.generate.pipeline import Generator, adapt
from trcgl.generate.prompts import prompt
from trcgl.generate.tokenizer import build_tokenizer

ASKED = [prompt(["Hernia", "Mass"], "Normal")]


def weights(generator):
    parts = (generator.unet, generator.text_encoder, generator.vae, generator.context)
    return [weight for part in parts for weight in part.state_dict().values()]


@pytest.fixture
def saved(tmp_path):
    generator, recipe = small_generator()
    folder.save(generator, tmp_path / "generator", recipe)
    return generator, tmp_path / "generator"


def test_a_generator_comes_back_bit_for_bit(saved):
    generator, path = saved
    opened = folder.load(path)
    assert all(torch.equal(before, after) for before, after in zip(weights(generator), weights(opened), strict=True))
    assert torch.equal(generator.encode(ASKED), opened.encode(ASKED))
    assert opened.space == generator.space and opened.image_size == generator.image_size
    assert not any(weight.requires_grad for weight in opened.unet.parameters())


def test_plain_diffusers_samples_from_it(saved):
    _, path = saved
    pipeline = StableDiffusionPipeline.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("chest radiograph with hernia", num_inference_steps=2).images[0]
    assert (image.size, image.mode) == ((32, 32), "L")


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "context.safetensors",
        "scheduler/scheduler_config.json",
        "unet/config.json",
    ],
)
def test_a_changed_or_missing_file_is_named(saved, name):
    _, path = saved
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=f"{name} is not the file that was written"):
        folder.load(path)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        folder.load(path)


def test_a_half_written_folder_says_how_to_finish_it(saved):
    _, path = saved
    (path / "generator.json").unlink()
    with pytest.raises(CheckpointError, match="did not write or finish, not a generator"):
        folder.load(path)
    (path / "recipe.json").write_text('{"autoencoder": {}}')
    (path / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match="run the same `trcgl train-generator` command again"):
        folder.load(path)


def test_a_full_disk_leaves_a_folder_that_is_refused(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "save_file", full)
    with pytest.raises(DataError, match=r"No space left on device"):
        folder.save(small_generator()[0], tmp_path / "generator", GeneratorRecipe())
    with pytest.raises(CheckpointError):
        folder.load(tmp_path / "generator")


SENTENCES = ("chest radiograph with normal hernia, mass and edema",)


def base_pipeline(latent=4, width=32, text=32, longest=24, tokens=24, texts=SENTENCES):
    """A pipeline of the kind of Stable Diffusion 1.x, small, with three colors and random weights."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(list(texts), tokens)
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=8,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=text,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=longest,
                **ends,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=16,
            in_channels=latent,
            out_channels=latent,
            block_out_channels=(32, 32),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=2,
            cross_attention_dim=width,
            norm_num_groups=8,
        ),
        scheduler=PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "small-diffusion"
    base_pipeline().save_pretrained(path)
    return path


def on(base, **more):
    return GeneratorRecipe(
        base=str(base), image_size=32, context=ContextRecipe(placement="input", shared=1, per_finding=1), **more
    )


def test_a_base_is_opened_with_its_weights_and_generates_gray_radiographs(base):
    generator = folder.load_base(on(base), SPACE)
    assert torch.equal(
        next(generator.unet.parameters()), next(StableDiffusionPipeline.from_pretrained(base).unet.parameters())
    )
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    assert generator.from_latents(generator.to_latents(images)).shape == (2, 3, 32, 32)
    assert generator.encode(ASKED).shape == (1, 24, 32)
    assert generator.image_size == 32


def test_low_rank_adapters_are_a_part_of_the_network_once_it_is_saved(base, tmp_path):
    generator = folder.load_base(on(base, unet=UNetRecipe(lora_rank=2)), SPACE)
    adapt(generator, on(base, unet=UNetRecipe(lora_rank=2)))
    adapters = [weight for name, weight in generator.unet.named_parameters() if weight.requires_grad and "lora" in name]
    assert adapters and sum(weight.numel() for weight in adapters) == sum(
        weight.numel() for weight in generator.unet.parameters() if weight.requires_grad
    )
    with torch.no_grad():
        for weight in adapters:
            weight.normal_(std=0.3)
        latent, step, hidden = torch.randn(1, 4, 16, 16), torch.tensor([7]), torch.randn(1, 24, 32)
        expected = generator.unet(latent, step, encoder_hidden_states=hidden).sample
        folder.save(generator, tmp_path / "g", on(base, unet=UNetRecipe(lora_rank=2)))
        found = folder.load(tmp_path / "g").unet(latent, step, encoder_hidden_states=hidden).sample
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not any("lora" in name for name in folder.load(tmp_path / "g").unet.state_dict())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"latent": 5}, "the U-Net takes 5 latent channels, the autoencoder gives 4"),
        ({"width": 48}, "attends to text of width 48, the text encoder gives 32"),
        ({"longest": 20}, "up to 24 tokens, the text encoder reads 20"),
    ],
)
def test_a_base_whose_parts_do_not_fit_is_refused_with_both_numbers(tmp_path, wrong, message):
    base_pipeline(**wrong).save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match=message):
        folder.load_base(on(tmp_path / "base"), SPACE)


def test_a_base_that_predicts_the_image_is_refused(tmp_path):
    pipeline = base_pipeline()
    pipeline.scheduler.register_to_config(prediction_type="sample")
    pipeline.save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="its network predicts 'sample'"):
        folder.load_base(on(tmp_path / "base"), SPACE)


def test_a_base_begins_alike_for_the_same_seed(base):
    tokens = [folder.load_base(on(base), SPACE).context.shared for _ in range(2)]
    assert torch.equal(*tokens)


def test_a_size_that_a_base_cannot_generate_is_refused(base):
    with pytest.raises(RecipeError, match="multiples of 4 pixels"):
        folder.load_base(GeneratorRecipe(base=str(base), image_size=30), SPACE)


@pytest.mark.parametrize("name", ["runwayml/stable-diffusion-v1-5", "no-such-folder"])
def test_a_base_that_is_gone_says_what_to_try(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"stable-diffusion-v1-5.*are gone.*Without network"):
        folder.load_base(GeneratorRecipe(base=name), SPACE)


def test_the_parts_of_stable_diffusion_fit():
    """The published configuration of version 1.5, on the meta device: no weights are needed to see that it fits."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64,
            block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2,
            cross_attention_dim=768,
            attention_head_dim=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
            )
        )
        context = ContextTokens(ContextRecipe(), len(SPACE.findings), 768)
    tokenizer = build_tokenizer(["chest radiograph"], 77)
    generator = Generator(tokenizer, text, vae, unet, DDIMScheduler(), context, SPACE, {})
    folder.check_fit(generator, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert sum(weight.numel() for weight in unet.parameters()) == 859_520_964
    assert generator.image_size == 512


def test_the_report_shows_near_words_and_what_every_prompt_becomes(saved):
    generator, path = saved
    folder.start_context(generator)
    report = folder.context_report(generator)
    assert set(report["tokens"]) == {"[shared 1]", *(f"[{finding} 1]" for finding in SPACE.findings)}
    assert next(iter(report["tokens"]["[Hernia 1]"])) == "hernia"
    assert report["prompts"]["chest radiograph with hernia"][-1] == "[mean of Hernia 1]"
    assert json.loads((path / "context.json").read_text())["placement"] == "output"
