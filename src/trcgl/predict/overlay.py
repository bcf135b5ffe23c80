"""Maps over radiographs: heat where a map is high, and a line around the area where it reaches half its maximum."""

import base64
import io
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import binary_erosion

from trcgl.core.html import png_uri
from trcgl.imaging.radiograph import Placement
from trcgl.model.maps import to_radiograph

REGION = 0.5
"""The decision region of a finding is the area where its map reaches this share of its maximum."""
OPACITY = 0.6
EDGE = (92, 225, 255)
"""Color of the line: absent from the color scale of the heat, and visible on bone and on air."""
PAGE_SIDE = 224
"""Longer side of a radiograph on a page, in pixels."""
HEAT_SIDE = 112
"""Longer side of a map on a page, in pixels."""


def heat(values: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 4"]:
    """A map from 0 to 1 as an RGBA layer: transparent at 0, brighter and more opaque as the value rises."""
    level = (values.clip(0, 1) * 255).round().astype(np.uint8)
    layer = _colors()[level]
    region = values >= REGION
    width = max(1, round(max(values.shape) / 400))
    # All eight neighbors: with four, a diagonal line turns into dots when the layer is scaled up.
    layer[region & ~binary_erosion(region, np.ones((3, 3), bool), iterations=width)] = (*EDGE, 255)
    return layer


def over(
    pixels: UInt8[np.ndarray, "height width"], layer: UInt8[np.ndarray, "height width 4"]
) -> UInt8[np.ndarray, "height width 3"]:
    """An RGBA layer over a gray picture."""
    # In 16 bits and one channel at a time, because a radiograph has ten million pixels.
    opacity = layer[..., 3].astype(np.uint16)
    gray = pixels * (255 - opacity)
    channels = [((gray + layer[..., channel] * opacity + 127) // 255).astype(np.uint8) for channel in range(3)]
    return np.stack(channels, axis=-1)


def small_map(
    grid: Float[np.ndarray, "rows columns"],
    original_size: tuple[int, int],
    placement: Placement,
    square: int,
    side: int = HEAT_SIDE,
) -> Float[np.ndarray, "height width"]:
    """A map in the proportions of its radiograph.

    Args:
        grid: values on the grid of the network.
        original_size: rows and columns of the radiograph.
        placement: from the radiograph to the network's input.
        square: side of the network's input, in pixels.
        side: longer side of the result, in pixels.
    """
    longer = max(original_size)
    rows, columns = (max(1, round(length * side / longer)) for length in original_size)
    step_y, step_x = original_size[0] / rows, original_size[1] / columns
    smaller = Placement(placement.scale_x * step_x, placement.scale_y * step_y, placement.offset_x, placement.offset_y)
    return to_radiograph(grid, (rows, columns), smaller, square)


def heat_uri(values: Float[np.ndarray, "height width"]) -> str:
    """`heat` as the data URI of a PNG with transparency."""
    stream = io.BytesIO()
    Image.fromarray(heat(values)).quantize(64).save(stream, format="PNG", optimize=True)
    return png_uri(stream.getvalue())


def jpeg(pixels: UInt8[np.ndarray, "height width *channels"], quality: int = 92) -> bytes:
    """A picture as a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality)
    return stream.getvalue()


def jpeg_uri(pixels: UInt8[np.ndarray, "height width"]) -> str:
    """A picture as the data URI of a JPEG of moderate quality, for a page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(pixels, quality=82)).decode()


@cache
def _colors() -> UInt8[np.ndarray, "256 4"]:
    from matplotlib import colormaps

    level = np.linspace(0, 1, 256)
    color = colormaps["inferno"](level)
    color[:, 3] = OPACITY * level
    return (color * 255).round().astype(np.uint8)
