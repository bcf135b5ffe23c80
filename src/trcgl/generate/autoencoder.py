"""From images to latents and back: lossless space-to-depth, or a small variational autoencoder."""

from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trcgl.core.errors import RecipeError
from trcgl.core.generator_recipe import AutoencoderRecipe

PIXELS = 2**20  # pixels encoded or decoded at once; Stable Diffusion's VAE needs about 1 GiB for 512 x 512 pixels
_MEASURED = 32  # images encoded at once to measure the latent scale


class Exactly:
    """A distribution with a single value, where a pipeline expects a posterior."""

    def __init__(self, value: Tensor) -> None:
        self._value = value

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Return the value."""
        return self._value

    def mode(self) -> Tensor:
        """Return the value."""
        return self._value


class SpaceToDepth(ModelMixin, ConfigMixin):
    """Fold blocks of factor x factor pixels into channels and back; lossless, with the interface of `AutoencoderKL`.

    A small VAE smooths away small findings (calcifications, lines); folding keeps them. `factor`, the side of a block,
    is a power of two; `block_out_channels` are made up so that pipelines compute it as 2 ** (len - 1). Latents are
    multiplied by `scaling_factor`, from `measure_scale`.
    """

    @register_to_config
    def __init__(
        self,
        factor: int = 4,
        in_channels: int = 1,
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] | list[int] = (1, 1, 1),
        latent_channels: int = 16,
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("unit", torch.ones(()))  # knows device and type; pipelines expect a file of weights

    def encode(self, image: Tensor) -> AutoencoderKLOutput:
        """(B, c, H, W) to latents (B, c f², H / f, W / f)."""
        return AutoencoderKLOutput(latent_dist=Exactly(functional.pixel_unshuffle(image, self.config["factor"])))

    def decode(self, latent: Tensor, return_dict: bool = True, generator: torch.Generator | None = None) -> Any:
        """The inverse of `encode`: a `DecoderOutput`, or a tuple."""
        image = functional.pixel_shuffle(latent, self.config["factor"])
        return DecoderOutput(sample=image) if return_dict else (image,)


Autoencoder: TypeAlias = SpaceToDepth | AutoencoderKL
Posterior: TypeAlias = Exactly | DiagonalGaussianDistribution


def encode(autoencoder: Autoencoder, images: Float[Tensor, "batch 1 height width"]) -> Posterior:
    """Distribution of the unscaled latents of images in [-1, 1], encoded in slices of at most `PIXELS` pixels."""
    seen = images.expand(-1, autoencoder.config["in_channels"], -1, -1)
    slices = [autoencoder.encode(part).latent_dist for part in seen.split(_together(images[0].numel()))]
    if len(slices) == 1:
        return slices[0]
    if isinstance(slices[0], Exactly):
        return Exactly(torch.cat([part.mode() for part in slices]))
    return DiagonalGaussianDistribution(torch.cat([part.parameters for part in slices]))


def decode(
    autoencoder: Autoencoder, latents: Float[Tensor, "batch channels h w"]
) -> Float[Tensor, "batch colors height width"]:
    """Images of unscaled latents, decoded in slices of at most `PIXELS` pixels."""
    factor = 2 ** (len(autoencoder.config["block_out_channels"]) - 1)
    slices = latents.split(_together(latents[0, 0].numel() * factor**2))
    return torch.cat([autoencoder.decode(part).sample for part in slices])


def _together(pixels: int) -> int:
    """Number of images of a slice, for images of so many pixels."""
    return max(1, PIXELS // pixels)


def build_autoencoder(recipe: AutoencoderRecipe) -> Autoencoder:
    """The autoencoder of a recipe, with a single image channel and random weights."""
    levels = recipe.factor.bit_length()
    if recipe.factor != 1 << (levels - 1):
        raise RecipeError(f"autoencoder.factor is {recipe.factor}; it must be a power of two.")
    if recipe.kind == "space_to_depth":
        return SpaceToDepth(recipe.factor, 1, 1.0, (1,) * levels, recipe.factor**2)
    widths = tuple(recipe.width * 2**level for level in range(levels))
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=widths,
        latent_channels=recipe.latent_channels,
        norm_num_groups=min(16, recipe.width),
        layers_per_block=1,
        mid_block_add_attention=False,
        force_upcast=False,
    )


@torch.inference_mode()
def measure_scale(autoencoder: Autoencoder, images: Float[Tensor, "batch 1 height width"]) -> float:
    """Set `scaling_factor` so that latents of these images in [-1, 1] have standard deviation 1, and return it.

    The factor of Stable Diffusion, 0.18215, is right only for its own autoencoder on photographs.
    """
    latents = torch.cat([encode(autoencoder, part).mode() for part in images.split(_MEASURED)])
    scale = float(1 / latents.std())
    autoencoder.register_to_config(scaling_factor=scale)
    return scale


def normalized(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """Latents of unit variance (B, channels, h, w), from those of the encoder.

    The autoencoder's config has a `scaling_factor`, and may have a `shift_factor`, or a mean and a standard deviation
    for each channel (`latents_mean`, `latents_std`).
    """
    shift, factor = _shift_and_factor(autoencoder, latents)
    return (latents - shift) * factor


def denormalized(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """The inverse of `normalized`: latents for the decoder."""
    shift, factor = _shift_and_factor(autoencoder, latents)
    return latents / factor + shift


def _shift_and_factor(autoencoder: Autoencoder, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
    config = autoencoder.config
    factor, mean, std = config["scaling_factor"], config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return config.get("shift_factor") or 0.0, factor
    shift, spread = (torch.tensor(each, device=latents.device).view(1, -1, 1, 1) for each in (mean, std))
    return shift, factor / spread
