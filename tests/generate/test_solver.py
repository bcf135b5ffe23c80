"""From noise to images: exact where the truth is known, the same alone and in a batch, guided as published."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from tests.generate.small_generator import small_generator
from trcgl.generate.prompts import prompt
from trcgl.generate.solver import denoise, even_in_log_snr, sample, starts

MEAN = 0.4


@pytest.fixture(scope="module")
def generator():
    return small_generator()[0]


@pytest.fixture(scope="module")
def condition(generator):
    with torch.no_grad():
        return generator.encode([prompt([finding], "Normal") for finding in ("Mass", "Edema", "Hernia", "Normal")])


@pytest.fixture(scope="module")
def empty(generator):
    with torch.no_grad():
        return generator.encode_empty()


class OfAGaussian:
    """The velocity that a network would predict if it had learned data N(m, s²) perfectly."""

    def __init__(self, scheduler, spread):
        self.alpha_bar, self.data_spread = scheduler.alphas_cumprod.double(), spread

    def __call__(self, noised, step, encoder_hidden_states):
        alpha_bar = self.alpha_bar[step]
        signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        off = (noised.double() - signal * MEAN) / (alpha_bar * self.data_spread**2 + 1 - alpha_bar)
        latent, noise = MEAN + signal * self.data_spread**2 * off, spread * off
        return SimpleNamespace(sample=(signal * noise - spread * latent).float())


def distance_from_the_truth(sampler, steps, spread, zero_terminal_snr=True):
    """Of 1,024 values, in units of the spread: the probability-flow ODE keeps every quantile of a Gaussian."""
    generator, _ = small_generator()
    generator.scheduler = DDIMScheduler.from_config(
        generator.scheduler.config, rescale_betas_zero_snr=zero_terminal_snr
    )
    generator.unet = OfAGaussian(generator.scheduler, spread)
    noise = torch.randn((64, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(64, 1, 1)
    found = denoise(generator, nothing, nothing[:1], noise, steps, 1.0, sampler)
    last = generator.scheduler.alphas_cumprod[-1]
    truth = MEAN + spread * (noise - last.sqrt() * MEAN) / (last * spread**2 + 1 - last).sqrt()
    return float((found - truth).abs().max() / spread)


@pytest.mark.parametrize("zero_terminal_snr", [True, False])
@pytest.mark.parametrize(
    ("sampler", "steps", "spread", "tolerance"),
    [
        ("ddim", 1000, 1.0, 0.02),
        ("ddim", 1000, 0.3, 0.05),
        ("dpm++2m", 200, 1.0, 0.02),
        ("dpm++2m", 200, 0.3, 0.1),
        ("dpm++2m", 20, 1.0, 0.1),
        ("dpm++2m", 20, 0.3, 0.1),
    ],
)
def test_samplers_solve_the_ode_of_a_gaussian(sampler, steps, spread, tolerance, zero_terminal_snr):
    assert distance_from_the_truth(sampler, steps, spread, zero_terminal_snr) < tolerance


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_twenty_steps_of_the_second_order_solver_are_nearer_than_twenty_of_the_first(spread):
    assert distance_from_the_truth("dpm++2m", 20, spread) < distance_from_the_truth("ddim", 20, spread)


@pytest.mark.parametrize("zero_terminal_snr", [True, False])
@pytest.mark.parametrize("spread", [0.13, 0.06])
def test_twenty_steps_keep_most_of_the_contrast_of_fine_detail(spread, zero_terminal_snr):
    """In a space of pixels thin lines are directions of little variance; averaged away, they are gone."""
    assert distance_from_the_truth("dpm++2m", 20, spread, zero_terminal_snr) < 0.5
    assert distance_from_the_truth("ddim", 20, spread, zero_terminal_snr) > 1.0


@pytest.mark.parametrize("zero_terminal_snr", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 5, 20, 25, 50, 200, 1000])
def test_levels_fall_from_the_last_to_the_first(steps, zero_terminal_snr):
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=zero_terminal_snr)
    levels = even_in_log_snr(scheduler.alphas_cumprod, steps)
    assert 1 <= len(levels) <= steps
    assert levels == sorted(set(levels), reverse=True)
    assert levels[0] == 999
    assert levels[-1] == 0 or steps == 1 or (steps == 2 and zero_terminal_snr)


@pytest.mark.parametrize("sampler", ["dpm++2m", "ddim"])
def test_an_image_does_not_depend_on_its_batch(generator, condition, empty, sampler):
    noise = starts(generator, [5, 6, 7, 8])
    together = denoise(generator, condition, empty, noise, 6, 3.0, sampler)
    alone = [denoise(generator, condition[i : i + 1], empty, noise[i : i + 1], 6, 3.0, sampler) for i in range(4)]
    assert (together - torch.cat(alone)).abs().max() <= 1e-5


def test_guidance_1_is_the_conditional_model(generator, condition, empty):
    noise = starts(generator, [1, 2, 3, 4])
    plain = denoise(generator, condition, torch.full_like(empty, torch.nan), noise, 4, 1.0, "dpm++2m")
    nearly = denoise(generator, condition, empty, noise, 4, 1.000001, "dpm++2m")
    guided = denoise(generator, condition, empty, noise, 4, 5.0, "dpm++2m")
    assert (plain - nearly).abs().max() < 1e-3
    assert (plain - guided).abs().max() > 1e-3


def test_guidance_leads_away_from_the_empty_prompt(generator, condition, empty):
    """v = v_empty + w (v_condition - v_empty), seen through a single step of DDIM, which is linear in v."""
    noise = starts(generator, [1, 2, 3, 4])
    alone = denoise(generator, condition, empty, noise, 1, 1.0, "ddim")
    unasked = denoise(generator, empty.expand(4, -1, -1), empty, noise, 1, 1.0, "ddim")
    guided = denoise(generator, condition, empty, noise, 1, 3.0, "ddim")
    assert torch.allclose(guided, unasked + 3 * (alone - unasked), atol=1e-4)


def test_each_image_of_a_batch_has_its_own_guidance(generator, condition, empty):
    noise = starts(generator, [5, 6, 7, 8])
    scales = [1.0, 2.0, 5.0, 9.0]
    together = denoise(generator, condition, empty, noise, 6, scales, "dpm++2m")
    for row, scale in enumerate(scales):
        alone = denoise(generator, condition[row : row + 1], empty, noise[row : row + 1], 6, scale, "dpm++2m")
        assert (together[row] - alone[0]).abs().max() <= 1e-4


def test_guidance_steers_up_to_its_log_snr_alone(generator, condition, empty):
    noise = starts(generator, [1, 2, 3, 4])

    def denoised(scale, guided_to):
        return denoise(generator, condition, empty, noise, 8, scale, "dpm++2m", guided_to)

    assert torch.equal(denoised(5.0, 100.0), denoised(5.0, float("inf")))
    assert torch.allclose(denoised(5.0, -100.0), denoised(1.0, 0.0), atol=1e-6)
    some = denoised(5.0, 0.0)
    assert (some - denoised(5.0, 100.0)).abs().max() > 1e-3
    assert (some - denoised(1.0, 0.0)).abs().max() > 1e-3


def test_the_empty_prompt_is_not_asked_where_guidance_has_ended(generator, condition, empty, monkeypatch):
    asked, network = [], generator.unet.forward
    monkeypatch.setattr(generator.unet, "forward", lambda x, *a, **k: asked.append(len(x)) or network(x, *a, **k))
    sample(generator, condition, empty, [1, 2, 3, 4], steps=20)
    assert asked == sorted(asked, reverse=True)
    assert 8 <= asked.count(8) <= 14
    assert asked.count(4) == len(asked) - asked.count(8)


def test_the_seed_decides_the_noise(generator):
    few, many = starts(generator, [9, 2**63 - 1]), starts(generator, [2**63 - 1, 1, 9])
    assert torch.equal(few, many[[2, 0]])
    assert abs(float(many.std()) - 1) < 0.05


def test_images_are_8_bit_of_the_generators_size_and_repeat(generator, condition, empty):
    images = sample(generator, condition, empty, [1, 2, 3, 4], steps=3)
    assert images.dtype == np.uint8
    assert images.shape == (4, generator.image_size, generator.image_size)
    assert np.array_equal(images, sample(generator, condition, empty, [1, 2, 3, 4], steps=3))
    assert len({image.tobytes() for image in images}) == 4


def test_a_network_in_bfloat16_samples_nearly_the_same(generator, condition, empty):
    half, _ = small_generator()
    half.unet.to(torch.bfloat16)
    noise = starts(generator, [1, 2, 3, 4])
    whole = denoise(generator, condition, empty, noise, 6, 3.0, "dpm++2m")
    rounded = denoise(half, condition.bfloat16(), empty.bfloat16(), noise, 6, 3.0, "dpm++2m")
    assert rounded.dtype == torch.float32
    assert (rounded - whole).abs().mean() < 0.05 * whole.std()
