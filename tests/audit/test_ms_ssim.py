"""MS-SSIM equals pytorch-msssim, whose numbers are stored, and has fewer levels for small images."""

import numpy as np
import pytest

from tests.official_code import official
from trcgl.audit.ms_ssim import BETAS, levels, ms_ssim

NUMBERS = official("ms_ssim")


def mixtures(side):
    """Three images of blocks of 8 pixels, and their mixtures with other blocks and noise."""
    rng = np.random.default_rng(side)
    blocks = rng.integers(0, 256, (2, 3, side // 8 + 1, side // 8 + 1)).repeat(8, 2).repeat(8, 3)[..., :side, :side]
    shares = np.array([0.2, 0.5, 0.9])[:, None, None]
    mixed = shares * blocks[0] + (1 - shares) * blocks[1]
    mixed += rng.normal(0, 8, mixed.shape)
    return blocks[0].astype(np.uint8), mixed.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("case", NUMBERS["cases"], ids=lambda case: f"{case['side']} px, {case['levels']} levels")
def test_ms_ssim_is_that_of_pytorch_msssim(case):
    betas = tuple(beta / sum(BETAS[: case["levels"]]) for beta in BETAS[: case["levels"]])
    assert ms_ssim(*mixtures(case["side"]), betas) == pytest.approx(case["ms_ssim"], abs=1e-5)


@pytest.mark.parametrize(("side", "count"), [(8, 0), (16, 1), (28, 2), (64, 3), (96, 3), (128, 4), (224, 5), (512, 5)])
def test_ms_ssim_has_as_many_levels_as_the_image_has_room_for(side, count):
    betas = levels(side)
    assert len(betas) == count and (not count or sum(betas) == pytest.approx(1))
    if count:
        pair = np.random.default_rng(0).integers(0, 255, (2, 1, side, side)).astype(np.uint8)
        assert ms_ssim(pair[0], pair[0], betas) == pytest.approx(1)
        assert ms_ssim(pair[0], pair[1], betas) < 0.5
