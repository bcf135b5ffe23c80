"""Resize maps from the grid of a network to the pixels of the square image, or of the original radiograph.

Bilinear between the centers of cells and pixels; beyond the outermost centers the value is constant.
"""

import numpy as np
from jaxtyping import Float, Num

from trcgl.imaging.radiograph import Placement


def to_square(maps: Num[np.ndarray, "*batch rows columns"], side: int) -> Float[np.ndarray, "*batch {side} {side}"]:
    """Resize maps to the square image, float32.

    Args:
        maps: values on a grid over the square image.
        side: side of the image in pixels.
    """
    return to_radiograph(maps, (side, side), Placement(1.0, 1.0, 0.0, 0.0), side)


def to_radiograph(
    maps: Num[np.ndarray, "*batch rows columns"],
    original_size: tuple[int, int],
    placement: Placement,
    side: int,
) -> Float[np.ndarray, "*batch height width"]:
    """Resize maps to the full resolution of the radiograph; values on the padding of the square image are cropped.

    Pixel x of the file lies at (x · scale_x + offset_x) / side of the width of the square image, and likewise y.
    Thirty findings of a 3,000 x 3,000 radiograph take a gigabyte: pass one finding at a time.

    Args:
        maps: values on a grid over the square image.
        original_size: rows and columns of the radiograph (`Radiograph.original_size`).
        placement: from pixels of the radiograph to pixels of the square image (`Radiograph.placement`).
        side: side of the square image in pixels.

    Returns:
        Float32 with the rows and columns of the radiograph.
    """
    downwards = _weights(original_size[0], maps.shape[-2], placement.scale_y, placement.offset_y, side)
    across = _weights(original_size[1], maps.shape[-1], placement.scale_x, placement.offset_x, side)
    return downwards @ maps.astype(np.float32) @ across.T


def _weights(pixels: int, cells: int, scale: float, offset: float, side: int) -> Float[np.ndarray, "pixels cells"]:
    """Interpolation weights of two neighboring cells for each pixel, which sum to 1."""
    place = ((np.arange(pixels) + 0.5) * scale + offset) / side * cells - 0.5
    place = np.clip(place, 0, cells - 1)
    before = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    share = (place - before).astype(np.float32)
    weights = np.zeros((pixels, cells), np.float32)
    rows = np.arange(pixels)
    weights[rows, before] = 1 - share
    weights[rows, np.minimum(before + 1, cells - 1)] += share
    return weights
