"""The forward process is the scheduler's, and the weight of a noise level is the published one, finite at both ends."""

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from trcgl.generate.diffusion import log_snr_of, min_snr_weight, noise_levels, noised, shares_of_levels, velocity


def scheduler(zero_terminal_snr=True):
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=zero_terminal_snr,
    )


def latents_and_noise(rows):
    random = torch.Generator().manual_seed(0)
    return torch.randn((2, rows, 3, 4, 4), generator=random).unbind()


@pytest.mark.parametrize("zero_terminal_snr", [True, False])
def test_noised_latents_and_velocities_are_those_of_diffusers(zero_terminal_snr):
    theirs = scheduler(zero_terminal_snr)
    steps = torch.tensor([0, 1, 250, 500, 998, 999])
    latent, noise = latents_and_noise(len(steps))
    alpha_bar = theirs.alphas_cumprod[steps]
    assert torch.allclose(noised(latent, noise, alpha_bar), theirs.add_noise(latent, noise, steps), atol=1e-6)
    assert torch.allclose(velocity(latent, noise, alpha_bar), theirs.get_velocity(latent, noise, steps), atol=1e-6)


def test_latent_and_noise_are_found_again_from_what_is_noised_and_its_velocity():
    latent, noise = latents_and_noise(5)
    alpha_bar = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    there, speed = noised(latent, noise, alpha_bar), velocity(latent, noise, alpha_bar)
    signal, spread = alpha_bar.sqrt()[:, None, None, None], (1 - alpha_bar).sqrt()[:, None, None, None]
    assert torch.allclose(signal * there - spread * speed, latent, atol=1e-6)
    assert torch.allclose(spread * there + signal * speed, noise, atol=1e-6)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.1, 20))
def test_the_weight_is_that_of_min_snr_for_v_prediction(alpha_bar, gamma):
    snr = alpha_bar / (1 - alpha_bar)
    weight = min_snr_weight(torch.tensor([alpha_bar], dtype=torch.float64), gamma)
    assert float(weight) == pytest.approx(min(snr, gamma) / (snr + 1), rel=1e-9)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.1, 20))
def test_the_weight_of_noise_that_a_base_predicts_is_that_of_min_snr_too(alpha_bar, gamma):
    snr = alpha_bar / (1 - alpha_bar)
    weight = min_snr_weight(torch.tensor([alpha_bar], dtype=torch.float64), gamma, "epsilon")
    assert float(weight) == pytest.approx(min(snr, gamma) / snr, rel=1e-9)


def test_gamma_0_weighs_all_noise_levels_alike():
    assert min_snr_weight(torch.tensor([0.0, 0.3, 1.0]), 0.0).tolist() == [1, 1, 1]


def test_the_loss_and_its_gradient_are_finite_at_every_noise_level_with_zero_terminal_snr():
    alpha_bar = scheduler().alphas_cumprod
    assert alpha_bar[-1] == 0
    latent, noise = latents_and_noise(len(alpha_bar))
    latent.requires_grad_()
    scale = torch.ones((), requires_grad=True)
    predicted = scale * noised(latent, noise, alpha_bar)
    error = (predicted - velocity(latent, noise, alpha_bar)).square().mean((1, 2, 3))
    loss = error * min_snr_weight(alpha_bar, 5.0)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert scale.grad.isfinite()
    assert latent.grad.isfinite().all()
    assert loss[-1] == 0  # pure noise says nothing about the latent


def test_training_shows_the_levels_around_the_mean_most_and_still_shows_noise_alone():
    alpha_bar = scheduler().alphas_cumprod
    shares, log_snr = shares_of_levels(alpha_bar, 1.0, 2.0), log_snr_of(alpha_bar)
    assert float(shares.sum()) == pytest.approx(1)
    assert float(shares[-1]) == pytest.approx(0.25 / len(alpha_bar), rel=0.01)
    # Three quarters of a normal distribution within one standard deviation, and a quarter of the levels there.
    near = (log_snr - 1.0).abs() < 2.0
    assert float(shares[near].sum()) == pytest.approx(0.75 * 0.683 + 0.25 * float(near.double().mean()), abs=0.01)


def test_without_a_spread_training_shows_all_levels_alike():
    assert shares_of_levels(scheduler().alphas_cumprod, 1.0, 0.0).tolist() == [1 / 1000] * 1000


def test_levels_come_as_often_as_their_shares_and_spread_over_every_batch():
    shares = torch.tensor([0.5, 0.0, 0.25, 0.25], dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    batches = torch.stack([noise_levels(shares, 8, random) for _ in range(200)])
    assert all(torch.bincount(levels, minlength=4).tolist() == [4, 0, 2, 2] for levels in batches)
    assert abs(float((batches[:, 0] == 0).double().mean()) - 0.5) < 0.1  # no place of a batch has a level of its own
    assert not torch.equal(batches[0], batches[1])
