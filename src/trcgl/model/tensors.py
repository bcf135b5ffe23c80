"""Batches of stored images as tensors: resized to the network's side, scaled to [0, 1]."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional


def at_size(images: UInt8[Tensor, "batch height width"], size: int) -> UInt8[Tensor, "batch size size"]:
    """Square images at the network's size: antialiased bilinear, rounded to 8 bits; untouched if they have it."""
    if images.shape[1:] == (size, size):
        return images
    resized = functional.interpolate(images[:, None].float(), (size, size), mode="bilinear", antialias=True)
    return resized[:, 0].round().clamp(0, 255).to(torch.uint8)


def to_unit(images: UInt8[Tensor, "batch height width"]) -> Float[Tensor, "batch 1 height width"]:
    """Stored images as the network takes them: float32 in [0, 1], one channel."""
    return images[:, None].float() / 255
