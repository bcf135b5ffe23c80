"""Folding loses nothing; the scale of latents is measured."""

import pytest
import torch
from diffusers import AutoencoderKL

from trcgl.core.errors import RecipeError
from trcgl.core.generator_recipe import AutoencoderRecipe
from trcgl.generate.autoencoder import build_autoencoder, measure_scale


def images(count=6, side=32):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_space_to_depth_gives_back_every_bit(factor):
    autoencoder = build_autoencoder(AutoencoderRecipe(factor=factor))
    latents = autoencoder.encode(images()).latent_dist.sample()
    assert latents.shape == (6, factor**2, 32 // factor, 32 // factor)
    assert torch.equal(autoencoder.decode(latents).sample, images())


def test_a_vae_has_the_shapes_that_were_asked_for():
    autoencoder = build_autoencoder(AutoencoderRecipe(kind="vae", factor=4, latent_channels=3, width=16))
    assert isinstance(autoencoder, AutoencoderKL)
    latents = autoencoder.encode(images()).latent_dist.mode()
    assert latents.shape == (6, 3, 8, 8)
    assert autoencoder.decode(latents).sample.shape == (6, 1, 32, 32)


@pytest.mark.parametrize("kind", ["space_to_depth", "vae"])
def test_latents_have_unit_variance_once_the_scale_is_measured(kind):
    torch.manual_seed(0)
    autoencoder = build_autoencoder(AutoencoderRecipe(kind=kind, width=16)).eval()
    scale = measure_scale(autoencoder, images())
    with torch.no_grad():
        latents = autoencoder.encode(images()).latent_dist.mode()
    assert float((latents * scale).std()) == pytest.approx(1, rel=1e-4)
    assert autoencoder.config["scaling_factor"] == scale


def test_a_factor_that_is_no_power_of_two_is_refused():
    with pytest.raises(RecipeError, match=r"autoencoder.factor is 6; it must be a power of two"):
        build_autoencoder(AutoencoderRecipe(factor=6))
