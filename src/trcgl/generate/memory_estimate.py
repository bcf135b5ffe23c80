"""Estimate the memory of generator training and of synthesis; see `trcgl.training.memory_estimate`.

A base is built from its configuration alone, without weights. A base that is not a folder on this machine is taken to
have the size of Stable Diffusion 1.5 at its own size in pixels.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.dataset.labels import LabelSpace
from trcgl.generate import pipeline
from trcgl.generate.context import ContextTokens
from trcgl.generate.pipeline import Generator
from trcgl.generate.prompts import EMPTY
from trcgl.generate.tokenizer import build_tokenizer
from trcgl.training.fake_gpu import LiveBytes, autocast, fake_tensors, moved
from trcgl.training.memory_estimate import MemoryEstimate, allowance, estimate, saved_by

_LEVELS = 4
_SD15: dict[str, dict[str, Any]] = {
    "vae": {
        "down_block_types": ("DownEncoderBlock2D",) * _LEVELS,
        "up_block_types": ("UpDecoderBlock2D",) * _LEVELS,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
    },
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
    },
    "unet": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "scheduler": {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1},
}
"""Configuration of Stable Diffusion 1.5 where it differs from the defaults of diffusers and transformers."""


def placeholder_space(findings: int) -> LabelSpace:
    """A label space for estimates without a dataset."""
    names = tuple(f"finding {number}" for number in range(findings))
    return LabelSpace("placeholder", names, dict.fromkeys(names, "medium"), "name")


def outline(recipe: GeneratorRecipe, space: LabelSpace) -> Generator:
    """A generator with the shapes of a recipe; the weights of a base are on the device `meta`.

    Its tokenizer is one of a generator from scratch, with prompts of the length of the base.
    """
    if recipe.base is None:
        return pipeline.build(recipe, space)
    folder = Path(recipe.base) if (Path(recipe.base) / "model_index.json").is_file() else None

    def config(kind: Any, part: str) -> dict[str, Any]:
        return kind.load_config(folder, subfolder=part) if folder else _SD15[part]

    with torch.device("meta"):
        vae = AutoencoderKL.from_config(config(AutoencoderKL, "vae"))
        factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
        latent = {**config(UNet2DConditionModel, "unet"), "sample_size": recipe.image_size // factor}
        unet = UNet2DConditionModel.from_config(latent)
        text = (
            CLIPTextConfig.from_pretrained(folder / "text_encoder")
            if folder
            else CLIPTextConfig(**_SD15["text_encoder"])
        )
        text_encoder = CLIPTextModel(text)
        context = ContextTokens(recipe.context, len(space.findings), text.hidden_size)
    scheduler = DDIMScheduler.from_config(config(DDIMScheduler, "scheduler"))
    tokenizer = build_tokenizer(space.findings, text.max_position_embeddings)
    return Generator(tokenizer, text_encoder, vae, unet, scheduler, context, space, {})


def generator_memory(recipe: GeneratorRecipe, space: LabelSpace, *, devices: int = 1) -> MemoryEstimate:
    """Memory of `trcgl train-generator` on each device, of the stage that needs the most.

    Args:
        recipe: settings of the training.
        space: findings of the prompts.
        devices: number of devices that share a batch.

    Raises:
        RecipeError: the network cannot be built.
    """
    generator = outline(recipe, space)
    generator.context.enabled = recipe.context.placement != "none"
    parts = (generator.vae, generator.text_encoder, generator.unet, generator.context)
    for part in parts:
        part.requires_grad_(False)
    with torch.device("meta"):
        trained = [pipeline.adapt(generator, recipe)]
    if not recipe.base:
        trained.append(generator.text_encoder.requires_grad_(True))
    if not recipe.fit.context_steps:
        trained.append(generator.context.requires_grad_(True))
    rows = -(-recipe.fit.batch_size // devices)
    with fake_tensors():
        for part in parts:
            moved(part)
        stages = [_of_stage(generator, recipe, rows)]
        if recipe.autoencoder.kind == "vae" and recipe.autoencoder.steps and not recipe.base:
            stages.append(_of_autoencoder(generator, recipe, rows))
        if generator.context.enabled and recipe.fit.context_steps:
            for part in trained:
                part.requires_grad_(False)
            generator.context.requires_grad_(True)
            stages.append(_of_stage(generator, recipe, rows))
    return max(stages, key=lambda stage: stage.total)


def synthesis_memory(
    generator: Generator, batch_size: int, *, precision: str = "32-true", guided: bool = True
) -> MemoryEstimate:
    """Memory of `trcgl synthesize` on each device.

    Args:
        generator: from `outline`; its weights are replaced.
        batch_size: images sampled at once.
        precision: `bf16` or `32-true` of the U-Net; the other parts are in float32.
        guided: whether the empty prompt is evaluated as well, in the same batch.
    """
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    nn.Module.to(generator.unet, dtype=kind)
    parts = (generator.vae, generator.text_encoder, generator.unet, generator.context)
    with fake_tensors(), torch.no_grad():
        for part in parts:
            moved(part)
        latent = torch.empty(batch_size, *_latent_shape(generator), device="cuda")
        doubled = torch.cat([latent, latent] if guided else [latent]).to(kind)
        hidden = generator.encode([EMPTY] * len(doubled)).to(kind)
        step = torch.zeros((), device="cuda")
        peaks = [
            _peak(lambda: generator.unet(doubled, step, encoder_hidden_states=hidden).sample),
            _peak(lambda: generator.from_latents(latent)),
        ]
        weights = sum(tensor.nbytes for part in parts for tensor in (*part.parameters(), *part.buffers()))
    return MemoryEstimate(weights, 0, 0, 0, max(peaks), allowance(max(peaks), 0))


def _of_stage(generator: Generator, recipe: GeneratorRecipe, rows: int) -> MemoryEstimate:
    """A stage that trains the weights with a gradient to denoise."""
    parts = (generator.vae, generator.text_encoder, generator.unet, generator.context)
    network = nn.ModuleList([generator.text_encoder, generator.unet, generator.context])

    def forward() -> Tensor:
        latent = torch.empty(rows, *_latent_shape(generator), device="cuda")
        step = torch.zeros(rows, dtype=torch.long, device="cuda")
        with autocast(recipe.fit.precision):
            hidden = generator.encode([EMPTY] * rows)
            predicted = generator.unet(latent, step, encoder_hidden_states=hidden).sample
        return predicted.float().square().mean()

    saved, checkpointed = saved_by(network, forward), None
    if recipe.fit.gradient_checkpointing:
        generator.unet.enable_gradient_checkpointing()
        checkpointed = saved_by(network, forward)
        generator.unet.disable_gradient_checkpointing()
    found = estimate(parts, saved, checkpointed)
    images = torch.empty(rows, 1, recipe.image_size, recipe.image_size, device="cuda")
    with torch.no_grad(), autocast(recipe.fit.precision):
        encoding = _peak(lambda: generator.to_latents(images))  # before anything is saved
    average = found.gradients if recipe.fit.ema else 0
    return replace(found, average=average, activations=max(found.activations, encoding))


def _of_autoencoder(generator: Generator, recipe: GeneratorRecipe, rows: int) -> MemoryEstimate:
    """The stage that trains a variational autoencoder, without its feature loss."""
    vae = generator.vae.requires_grad_(True)

    def forward() -> Tensor:
        images = torch.empty(rows, 1, recipe.image_size, recipe.image_size, device="cuda")
        with autocast(recipe.fit.precision):
            posterior = vae.encode(images).latent_dist
            return (vae.decode(posterior.sample()).sample - images).abs().mean() + posterior.kl().mean()

    found = estimate([vae], saved_by(vae, forward), None)
    vae.requires_grad_(False)
    return replace(found, average=found.gradients if recipe.fit.ema else 0)


def _latent_shape(generator: Generator) -> tuple[int, int, int]:
    side = generator.unet.config["sample_size"]
    return generator.unet.config["in_channels"], side, side


def _peak(run: Callable[[], Any]) -> int:
    with LiveBytes() as live:
        run()
    return live.peak
