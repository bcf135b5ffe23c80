"""The forward process and its loss: noise, velocity, and how much each noise level counts.

A latent z at step t is z_t = sqrt(ā) z + sqrt(1 - ā) ε, with ε ~ N(0, I) and ā = ā_t from the scheduler. A network from
scratch predicts the velocity v = sqrt(ā) ε - sqrt(1 - ā) z (Salimans & Ho 2022, appendix D), which says something at
zero signal too; a base goes on to predict what it has learned to.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def noised(
    latent: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    alpha_bar: Float[Tensor, " batch"],
) -> Float[Tensor, "batch channels height width"]:
    """The noised latent z_t = sqrt(ā) z + sqrt(1 - ā) ε."""
    signal, spread = _roots(alpha_bar)
    return signal * latent + spread * noise


def velocity(
    latent: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    alpha_bar: Float[Tensor, " batch"],
) -> Float[Tensor, "batch channels height width"]:
    """The velocity v = sqrt(ā) ε - sqrt(1 - ā) z."""
    signal, spread = _roots(alpha_bar)
    return signal * noise - spread * latent


def target(
    latent: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    alpha_bar: Float[Tensor, " batch"],
    prediction_type: str,
) -> Float[Tensor, "batch channels height width"]:
    """What the network is to predict: `v_prediction`, or the noise for a base that learned `epsilon`."""
    return noise if prediction_type == "epsilon" else velocity(latent, noise, alpha_bar)


def min_snr_weight(
    alpha_bar: Float[Tensor, " batch"], gamma: float, prediction_type: str = "v_prediction"
) -> Float[Tensor, " batch"]:
    """Weight of a squared error, so that of the latent it counts min(SNR, γ), with SNR = ā / (1 - ā); 1 where γ is 0.

    For the velocity it is min(SNR, γ) / (SNR + 1), for the noise min(SNR, γ) / SNR (Hang et al. 2023, section 3.4).
    Written in ā both are finite at every level, also at zero signal.
    """
    if not gamma:
        return torch.ones_like(alpha_bar)
    if prediction_type == "epsilon":
        return (gamma * (1 - alpha_bar) / alpha_bar.clamp(min=1e-12)).clamp(max=1)
    return torch.minimum(alpha_bar, gamma * (1 - alpha_bar))


def _roots(alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    alpha_bar = alpha_bar[:, None, None, None]
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
