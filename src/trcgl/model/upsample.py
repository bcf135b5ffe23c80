"""Maps from the grid of a network to any number of pixels, and back to the radiograph before it was made square.

Bilinear, between centers of cells and of pixels; beyond the outermost centers a map stays as it is at them.
"""

import numpy as np
from jaxtyping import Float, Num

from trcgl.imaging.radiograph import Placement


def to_square(maps: Num[np.ndarray, "*batch rows columns"], side: int) -> Float[np.ndarray, "*batch {side} {side}"]:
    """Maps of the whole square picture at `side` pixels, float32.

    Args:
        maps: values of the cells of a grid over the picture.
        side: of the picture, in pixels.
    """
    return to_radiograph(maps, (side, side), Placement(1.0, 1.0, 0.0, 0.0), side)


def to_radiograph(
    maps: Num[np.ndarray, "*batch rows columns"],
    original_size: tuple[int, int],
    placement: Placement,
    side: int,
) -> Float[np.ndarray, "*batch height width"]:
    """Maps at the full resolution of the radiograph: what lies on the padding of the square is left out.

    A pixel (x, y) of the file lies at (x · scale_x + offset_x) / side of the square picture's width, and likewise y.
    Thirty findings of a 3,000 x 3,000 radiograph take a gigabyte: give one at a time.

    Args:
        maps: values of the cells of a grid over the square picture.
        original_size: rows and columns of the radiograph (`Radiograph.original_size`).
        placement: from pixels of the radiograph to pixels of the square picture (`Radiograph.placement`).
        side: of the square picture, in pixels.

    Returns:
        Float32, as many rows and columns as the radiograph.
    """
    downwards = _weights(original_size[0], maps.shape[-2], placement.scale_y, placement.offset_y, side)
    across = _weights(original_size[1], maps.shape[-1], placement.scale_x, placement.offset_x, side)
    return downwards @ maps.astype(np.float32) @ across.T


def _weights(pixels: int, cells: int, scale: float, offset: float, side: int) -> Float[np.ndarray, "pixels cells"]:
    """How much of each cell is in each pixel: two neighbors that sum to 1."""
    place = ((np.arange(pixels) + 0.5) * scale + offset) / side * cells - 0.5
    place = np.clip(place, 0, cells - 1)
    before = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    share = (place - before).astype(np.float32)
    weights = np.zeros((pixels, cells), np.float32)
    rows = np.arange(pixels)
    weights[rows, before] = 1 - share
    weights[rows, np.minimum(before + 1, cells - 1)] += share
    return weights
