"""Sample radiographs from noise: an image depends on its prompt and seed, not on the rest of the batch."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from jaxtyping import Float, UInt8
from torch import Tensor

from trcgl.generate.autoencoder import encode, normalized
from trcgl.generate.diffusion import Latents, log_snr_of, noised
from trcgl.generate.pipeline import Generator

Encoded = Float[Tensor, "batch tokens features"]
Empty = Float[Tensor, "1 tokens features"]
Solver = Literal["dpm++2m", "ddim"]
DEFAULT_SOLVER: Solver = "dpm++2m"

GUIDED_TO = 0.0  # default log-SNR above which guidance stops: as much signal as noise

_OTHER_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
_FIRST_LOG_SNR = -9.5  # noise of 115 standard deviations; steps at lower log-SNR have no effect


def sample(
    generator: Generator,
    condition: Encoded,
    empty: Empty,
    seeds: Sequence[int],
    *,
    steps: int = 20,
    guidance: float | Sequence[float] = 5.0,
    guided_to: float = GUIDED_TO,
    solver: Solver = DEFAULT_SOLVER,
    images: Float[Tensor, "batch 1 height width"] | None = None,
    strength: float = 1.0,
) -> UInt8[np.ndarray, "batch height width"]:
    """Sample a radiograph for each seed, on the device of the generator.

    Args:
        generator: the generator.
        condition: encoded prompts.
        empty: the encoded empty prompt, for classifier-free guidance.
        seeds: random seed of each image.
        steps: denoising steps.
        guidance: w in v = v_empty + w (v_condition - v_empty) (Ho & Salimans 2022), for all images or for each; if it
            is 1 for all, the empty prompt is not evaluated.
        guided_to: log-SNR above which guidance stops. The content of a radiograph is decided by then; later guidance
            exaggerates texture (Kynkäänniemi et al. 2024) and costs a second evaluation.
        solver: DPM-Solver++ 2M (Lu et al. 2022) on `even_in_log_snr`, or DDIM (Song et al. 2021); both deterministic.
        images: image-to-image: the real images in [-1, 1] to start from (Meng et al. 2022, SDEdit); None starts from
            pure noise.
        strength: share of the noise levels that is added to `images` and removed again, above 0 and at most 1. With
            the zero terminal SNR of a generator from scratch, nothing of the images is left at 1.
    """
    noise = starts(generator, seeds)
    with torch.inference_mode():
        vae = generator.vae
        origin = None if images is None else normalized(vae, encode(vae, images).mode().float())
    latents = denoise(generator, condition, empty, noise, steps, guidance, solver, guided_to, origin, strength)
    gray = generator.from_latents(latents).float().mean(1).clamp(-1, 1)
    return ((gray + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def starts(generator: Generator, seeds: Sequence[int]) -> Latents:
    """Initial noise of each seed, computed on the CPU so that it is the same on every device."""
    channels, side = generator.unet.config["in_channels"], generator.unet.config["sample_size"]
    noise = [torch.randn((channels, side, side), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(noise).to(generator.unet.device)


@torch.inference_mode()
def denoise(
    generator: Generator,
    condition: Encoded,
    empty: Empty,
    noise: Latents,
    steps: int,
    guidance: float | Sequence[float],
    solver: Solver,
    guided_to: float = math.inf,
    origin: Latents | None = None,
    strength: float = 1.0,
) -> Latents:
    """Denoise; guidance and the solver's arithmetic in float32 whatever the precision of the network.

    `origin`: latents to which noise of a share `strength` of the noise levels is added first; None for pure noise.
    """
    scheduler = _scheduler(generator, solver, steps, strength)
    levels = log_snr_of(generator.scheduler.alphas_cumprod)
    both = torch.cat([condition, empty.expand(len(condition), -1, -1)])
    latents = noise * scheduler.init_noise_sigma
    if origin is not None:
        first = generator.scheduler.alphas_cumprod[int(scheduler.timesteps[0])]
        latents = noised(origin, noise, first.to(noise).expand(len(noise)))
    scale = torch.as_tensor(guidance, dtype=torch.float32, device=latents.device).reshape(-1, 1, 1, 1)
    guided_at_all = bool(np.any(np.asarray(guidance) != 1))  # not read from the GPU, which would wait
    for step in scheduler.timesteps:
        guided = guided_at_all and float(levels[int(step)]) <= guided_to
        predicted = generator.unet(
            (torch.cat([latents, latents]) if guided else latents).to(condition.dtype),
            step.to(latents.device),
            encoder_hidden_states=both if guided else condition,
        ).sample.float()
        if guided:
            conditional, unconditional = predicted.chunk(2)
            predicted = unconditional + scale * (conditional - unconditional)
        latents = scheduler.step(predicted, step, latents).prev_sample
    return latents


def _scheduler(
    generator: Generator, solver: Solver, steps: int, strength: float
) -> DPMSolverMultistepScheduler | DDIMScheduler:
    """A solver with its noise levels: those of `steps` steps up to a share `strength` of all levels."""
    config, first = generator.scheduler.config, max(0, round(strength * len(generator.scheduler.alphas_cumprod)) - 1)
    if solver == "ddim":
        scheduler = DDIMScheduler.from_config(config, timestep_spacing="trailing", clip_sample=False)
        scheduler.set_timesteps(steps)
        below = scheduler.timesteps[scheduler.timesteps <= first]
        scheduler.timesteps = below if len(below) else scheduler.timesteps[-1:]
        return scheduler
    scheduler = DPMSolverMultistepScheduler.from_config(
        config,
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
        **dict.fromkeys(_OTHER_SPACINGS, False),  # spacings of a base, which would contradict the given levels
    )
    levels = even_in_log_snr(generator.scheduler.alphas_cumprod, steps)
    scheduler.set_timesteps(timesteps=[first, *(level for level in levels if level < first)])
    return scheduler


def even_in_log_snr(alpha_bar: Float[Tensor, " levels"], steps: int) -> list[int]:
    """Noise levels for a few large steps, from the last level to the first, evenly spaced in log-SNR.

    The solver's error is in the log-SNR (Lu et al. 2022, section 4), and its last step, to no noise at all, gives the
    posterior mean, which averages away details finer than the noise before it. Levels evenly spaced in time leave 20
    steps with a noise of .23 there, which costs a detail of standard deviation .13 half of its contrast; these levels
    leave .03 and keep .98 of it. If the last level is pure noise, its log-SNR is infinite; the spacing starts at -9.5.

    `steps`: largest number of levels; levels that round to the same value are merged.
    """
    ratio = log_snr_of(alpha_bar).numpy()
    last = len(ratio) - 1
    beginning = max(float(ratio[-1]), _FIRST_LOG_SNR)
    wanted = np.linspace(beginning, ratio[0], steps if beginning == ratio[-1] else max(1, steps - 1))
    levels = np.rint(np.interp(wanted, ratio[::-1], np.arange(last, -1, -1))).astype(int)
    return sorted({last, *levels.tolist()}, reverse=True)[:steps]
