"""Forward process and loss: noise, velocity, and the weight of each noise level.

A latent z at step t is z_t = sqrt(ā) z + sqrt(1 - ā) ε, with ε ~ N(0, I) and ā = ā_t from the scheduler. A network from
scratch predicts the velocity v = sqrt(ā) ε - sqrt(1 - ā) z (Salimans & Ho 2022, appendix D), which is informative at
zero signal too; a base keeps the prediction type that it was trained with.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_EVEN = 0.25  # share of training that is spread evenly over the noise levels
_FAR = 12.0  # log-SNR is clamped here: that of the last level may be minus infinity


Latents = Float[Tensor, "batch channels height width"]
PerImage = Float[Tensor, " batch"]
PerLevel = Float[Tensor, " levels"]


def noised(latent: Latents, noise: Latents, alpha_bar: PerImage) -> Latents:
    """The noised latent z_t = sqrt(ā) z + sqrt(1 - ā) ε."""
    signal, spread = _roots(alpha_bar)
    return signal * latent + spread * noise


def velocity(latent: Latents, noise: Latents, alpha_bar: PerImage) -> Latents:
    """The velocity v = sqrt(ā) ε - sqrt(1 - ā) z."""
    signal, spread = _roots(alpha_bar)
    return signal * noise - spread * latent


def target(latent: Latents, noise: Latents, alpha_bar: PerImage, prediction_type: str) -> Latents:
    """Target of the network: the velocity, or the noise for a base with the prediction type `epsilon`."""
    return noise if prediction_type == "epsilon" else velocity(latent, noise, alpha_bar)


def min_snr_weight(alpha_bar: PerImage, gamma: float, prediction_type: str = "v_prediction") -> PerImage:
    """Weight of a squared error that is equivalent to min(SNR, γ) on the latent, SNR = ā / (1 - ā); 1 if γ is 0.

    For the velocity it is min(SNR, γ) / (SNR + 1), for the noise min(SNR, γ) / SNR (Hang et al. 2023, section 3.4).
    Written in ā both are finite at every level, also at zero signal.
    """
    if not gamma:
        return torch.ones_like(alpha_bar)
    if prediction_type == "epsilon":
        return (gamma * (1 - alpha_bar) / alpha_bar.clamp(min=1e-12)).clamp(max=1)
    return torch.minimum(alpha_bar, gamma * (1 - alpha_bar))


def shares_of_levels(alpha_bar: PerLevel, log_snr_mean: float, log_snr_std: float) -> PerLevel:
    """Share of each noise level in training; shares sum to 1.

    Three quarters follow a normal distribution of the log-SNR, log(ā / (1 - ā)) (Karras et al. 2022, table 1, whose
    log σ ~ N(-1.2, 1.2²) is a log-SNR of N(1, 2.4²) for data of standard deviation .5); a quarter is spread evenly in
    time, so that every level is learned, pure noise included. Shares are equal if the standard deviation is 0.
    """
    even = torch.full((len(alpha_bar),), 1 / len(alpha_bar), dtype=torch.float64)
    if not log_snr_std:
        return even
    log_snr = log_snr_of(alpha_bar).clamp(min=-_FAR)
    (width,) = torch.gradient(log_snr)
    density = torch.exp(-0.5 * ((log_snr - log_snr_mean) / log_snr_std) ** 2) * width.abs()
    return (1 - _EVEN) * density / density.sum() + _EVEN * even


def noise_levels(shares: PerLevel, count: int, random: torch.Generator) -> Int[Tensor, " count"]:
    """Levels of a batch, each as often as its share, spread over the batch in random order.

    One level is sampled from each of `count` equal parts of the distribution, which reduces the variance of the loss
    (Kingma et al. 2021, appendix I.1).
    """
    places = (torch.randperm(count, generator=random) + torch.rand(count, generator=random)) / count
    return torch.searchsorted(shares.cumsum(0), places.double()).clamp(max=len(shares) - 1)


def log_snr_of(alpha_bar: PerLevel) -> PerLevel:
    """Log-SNR of every noise level, in float64; that of pure noise is very low instead of infinite."""
    return (alpha_bar.double() / (1 - alpha_bar.double())).clamp(min=1e-30).log()


def _roots(alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    alpha_bar = alpha_bar[:, None, None, None]
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
