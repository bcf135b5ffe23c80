"""The memory estimate of generators, at the true size of Stable Diffusion 1.5 without its weights."""

import pytest
import torch

from trcgl.core.machine import GIB
from trcgl.core.recipe import overridden
from trcgl.dataset.labels import LabelSpace
from trcgl.generate.memory_estimate import generator_memory, outline, synthesis_memory
from trcgl.recipes import GENERATORS

SPACE = LabelSpace("findings", ("Effusion", "Mass", "Nodule"), dict.fromkeys(("Effusion", "Mass", "Nodule"), "medium"))


def test_the_outline_of_a_base_has_the_weights_of_stable_diffusion_and_takes_no_memory():
    generator = outline(GENERATORS["generator_sd15"](), SPACE)
    counts = {
        name: sum(weight.numel() for weight in getattr(generator, name).parameters())
        for name in ("unet", "vae", "text_encoder")
    }
    assert counts == {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}  # of its model card
    assert {weight.device.type for weight in generator.unet.parameters()} == {"meta"}
    assert generator.image_size == 512


@pytest.fixture(scope="module")
def of_sd15():
    return generator_memory(GENERATORS["generator_sd15"](), SPACE)


def test_low_rank_adaptation_of_stable_diffusion_fits_24_gb(of_sd15):
    assert of_sd15.total < 22 * GIB
    assert of_sd15.gradients < of_sd15.weights / 100  # low-rank matrices alone


def test_gradient_checkpointing_saves_memory(of_sd15):
    recipe = overridden(GENERATORS["generator_sd15"](), {"fit.gradient_checkpointing": False})
    assert of_sd15.activations < generator_memory(recipe, SPACE).activations / 2


def test_half_precision_halves_the_weights_of_the_network_in_synthesis():
    recipe = GENERATORS["generator_sd15"]()
    half, full = (synthesis_memory(outline(recipe, SPACE), 2, precision=kind) for kind in ("bf16", "32-true"))
    assert full.weights - half.weights == 2 * 859_520_964
    assert half.gradients == half.optimizer == 0


@pytest.mark.parametrize("kind", ["space_to_depth", "vae"])
def test_a_generator_from_scratch_is_estimated(kind):
    recipe = overridden(GENERATORS["generator_phantom"](), {"autoencoder.kind": kind})
    found = generator_memory(recipe, SPACE)
    generator = outline(recipe, SPACE)
    parts = (generator.vae, generator.text_encoder, generator.unet, generator.context)
    tensors = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    if kind == "space_to_depth":
        assert found.weights == sum(tensor.nbytes for tensor in tensors)
    assert 0 < found.total < 4 * GIB
    assert all(tensor.device == torch.device("cpu") for tensor in tensors)
