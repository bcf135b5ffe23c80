"""MS-SSIM: multi-scale structural similarity of two gray images (Wang, Simoncelli & Bovik 2003)."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five levels; the fewer levels of small images are scaled to sum to 1."""
KERNEL = 11
"""Side of the Gaussian window in pixels."""
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # constants of SSIM for gray levels from 0 to 1
_BATCH = 64


def levels(side: int) -> tuple[float, ...]:
    """Weights of the levels that an image of this side has room for, scaled to sum to 1; none below 11 pixels."""
    # The image is halved before every further level; a fourth level needs 99 pixels, a little more than the window.
    room = [level for level in range(len(BETAS)) if side // max(2**level, level**2) >= KERNEL]
    betas = BETAS[: max(room, default=-1) + 1]
    return tuple(beta / sum(betas) for beta in betas)


def ms_ssim(
    images: UInt8[np.ndarray, "pairs side side"], others: UInt8[np.ndarray, "pairs side side"], betas: tuple[float, ...]
) -> Float[np.ndarray, " pairs"]:
    """MS-SSIM of pairs of images: Π over levels of relu(contrast and structure)^β, on the last level relu(SSIM)^β.

    SSIM is the mean over the places where the Gaussian window lies within the image. Between levels, blocks of 2 x 2
    pixels are averaged, and an odd side is padded with zeros. Equal to pytorch-msssim 1.0 to 1e-5.
    """
    found = [np.empty(0)]
    for start in range(0, len(images), _BATCH):
        first, second = (
            torch.from_numpy(side[start : start + _BATCH])[:, None].float() / 255 for side in (images, others)
        )
        similar = torch.ones(len(first))
        for level, beta in enumerate(betas):
            if level:
                odd = first.shape[-1] % 2
                first, second = (avg_pool2d(side, 2, padding=odd) for side in (first, second))
            ssim, contrast = _ssim(first, second)
            similar = similar * (ssim if level == len(betas) - 1 else contrast).relu() ** beta
        found.append(similar.numpy().astype(np.float64))
    return np.concatenate(found)


def _ssim(
    first: Float[Tensor, "pairs 1 side side"], second: Float[Tensor, "pairs 1 side side"]
) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """SSIM of each pair, and its factor of contrast and structure."""
    window = torch.exp(-((torch.arange(KERNEL) - KERNEL // 2) ** 2) / (2 * _SIGMA**2))
    window = (window / window.sum())[None, None, None]  # (1, 1, 1, 11)
    moments = torch.cat([first, second, first * first, second * second, first * second])
    moments = conv2d(conv2d(moments, window), window.mT)
    mean_1, mean_2, square_1, square_2, product = moments.chunk(5)
    variances = square_1 - mean_1**2 + square_2 - mean_2**2
    contrast = (2 * (product - mean_1 * mean_2) + _C2) / (variances + _C2)
    luminance = (2 * mean_1 * mean_2 + _C1) / (mean_1**2 + mean_2**2 + _C1)
    return (luminance * contrast).mean((1, 2, 3)), contrast.mean((1, 2, 3))
