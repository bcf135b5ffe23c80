"""Stored images as input of a network: resized, scaled to [0, 1]."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional


def at_size(images: UInt8[Tensor, "batch height width"], size: int) -> UInt8[Tensor, "batch size size"]:
    """Resize to a square of `size` pixels (antialiased bilinear, rounded to 8 bits); images of that size are kept."""
    if images.shape[1:] == (size, size):
        return images
    resized = functional.interpolate(images[:, None].float(), (size, size), mode="bilinear", antialias=True)
    return resized[:, 0].round().clamp(0, 255).to(torch.uint8)


def pool_to_grid(
    feature: Float[Tensor, "batch features rows columns"], grid: int
) -> Float[Tensor, "batch features grid_rows grid_columns"]:
    """Means over `grid` x `grid` cells of equal area; their mean is that of the whole map. Smaller maps are kept."""
    rows, columns = (_cells(size, min(grid, size)).to(feature) for size in feature.shape[2:])
    return rows @ feature @ columns.T


def _cells(size: int, cells: int) -> Float[Tensor, "cells size"]:
    """Share of each place in each cell; a cell can end within a place."""
    edge = torch.arange(cells + 1) * (size / cells)
    place = torch.arange(size)
    overlap = torch.minimum(edge[1:, None], place + 1) - torch.maximum(edge[:-1, None], place)
    return overlap.clamp(min=0) * (cells / size)


def to_unit(images: UInt8[Tensor, "batch height width"]) -> Float[Tensor, "batch 1 height width"]:
    """Add the channel and scale to [0, 1] in float32."""
    return images[:, None].float() / 255
