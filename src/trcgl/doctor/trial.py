"""How fast this machine trains a network: steps on random images, for a few seconds."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.recipe import Recipe
from trcgl.model.backbone import checkpoint_gradients, freeze_stages
from trcgl.model.trcgl_net import TrcglNet
from trcgl.training.trainer import on_gpu

SECONDS = 10.0
"""Duration of a trial; the last step may go beyond it."""
_AT_LEAST = 2  # images per step: batch norm needs two values per channel
_STEPS = 4  # number of steps of a size that should fit into the rest of the trial


def images_per_second(step: Callable[[int], None], most: int, seconds: float = SECONDS) -> float:
    """Images per second of training steps of growing size.

    Args:
        step: one training step with a number of images; returns when the device has finished.
        most: largest number of images of a step.
        seconds: duration of the trial.
    """
    images, started = min(_AT_LEAST, most), time.perf_counter()
    step(images)  # the first step also chooses kernels
    if (first := time.perf_counter() - started) > seconds:
        return images / first
    while True:
        began = time.perf_counter()
        step(images)
        ended = time.perf_counter()
        left = seconds - (ended - started)
        if left <= 0:
            return images / (ended - began)
        if images < most and 2 * (ended - began) * _STEPS < left:
            images = min(2 * images, most)
            step(images)


def classifier_step(recipe: Recipe, findings: int) -> Callable[[int], None]:
    """A training step of a classifier with random weights, on the device of the recipe."""
    device = _device(recipe.train.accelerator)
    network = TrcglNet(recipe.model, findings, torch.eye(findings), load_weights=False).to(device).train()
    if recipe.train.frozen_stages is not None:
        freeze_stages(network.backbone, recipe.train.frozen_stages)
    if recipe.train.gradient_checkpointing:
        checkpoint_gradients(network.backbone)

    def loss(images: int) -> Tensor:
        side = recipe.model.image_size
        output = network(torch.rand(images, 1, side, side, device=device))
        logits = output.logits if output.experts is None else output.experts
        return nn.functional.softplus(logits.float()).mean()

    return _step(loss, [network], recipe.train.precision, device)


def generator_step(recipe: GeneratorRecipe, findings: int) -> Callable[[int], None]:
    """A training step of the U-Net of a generator with random weights, on the device of the recipe."""
    from trcgl.generate.memory_estimate import outline, placeholder_space
    from trcgl.generate.pipeline import adapt

    device = _device(recipe.fit.accelerator)
    generator = outline(recipe, placeholder_space(findings))
    generator.unet.requires_grad_(False)
    with torch.device("meta" if recipe.base else "cpu"):
        adapt(generator, recipe)
    if recipe.base:
        generator.unet.to_empty(device=device)
    generator.unet.to(device).train()
    if recipe.fit.gradient_checkpointing:
        generator.unet.enable_gradient_checkpointing()
    config = generator.unet.config
    side, width = config["sample_size"], config["cross_attention_dim"]

    def loss(images: int) -> Tensor:
        latent = torch.rand(images, config["in_channels"], side, side, device=device)
        hidden = torch.rand(images, generator.tokenizer.model_max_length, width, device=device)
        level = torch.zeros(images, dtype=torch.long, device=device)
        return generator.unet(latent, level, encoder_hidden_states=hidden).sample.float().square().mean()

    return _step(loss, [generator.unet], recipe.fit.precision, device)


def _step(
    loss: Callable[[int], Tensor], modules: list[nn.Module], precision: str, device: torch.device
) -> Callable[[int], None]:
    trained = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0)
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)

    def step(images: int) -> None:
        with torch.autocast(device.type, half, enabled=half is not None):
            value = loss(images)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _device(accelerator: str) -> torch.device:
    return torch.device("cuda" if on_gpu(accelerator) else "cpu")  # type: ignore[arg-type]
