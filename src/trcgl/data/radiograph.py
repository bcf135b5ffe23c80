"""One file (PNG, JPEG or DICOM) to one grayscale picture, or `UnreadableImage` with the reason and the fix.

Pixel rule: 8-bit files keep their values. Deeper files are stretched from the 0.5th to the 99.5th percentile of their
own pixels, because archives differ in how many of the bits they use; the range is recorded. MONOCHROME1 is inverted
once, after the VOI LUT. Alpha is dropped, color becomes luminance.

Time and memory are bounded for any file: its size in bytes and its announced size in pixels are checked before any
pixel is decoded.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Num, Shaped, UInt8
from PIL import Image

from trcgl.core.errors import UnreadableImage

Fit = Literal["letterbox", "squash"]

PERCENTILES = (0.5, 99.5)

PIXEL_RULE = (
    "8-bit files as they are; deeper files stretched from the 0.5th to the 99.5th percentile of their own pixels; "
    "DICOM after modality LUT and VOI LUT or window, MONOCHROME1 inverted"
)

_PNG, _JPEG, _DICOM = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"DICM"


@dataclass(frozen=True)
class Limits:
    """The largest file that is decoded.

    Args:
        bytes: of the file.
        pixels: rows times columns; 100 million covers every detector on the market several times.
    """

    bytes: int = 256 * 1024 * 1024
    pixels: int = 100_000_000


class Placement(NamedTuple):
    """Where the picture lies in its square: `x_out = x * scale_x + offset_x` in pixels, and likewise y."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float


@dataclass(frozen=True)
class Radiograph:
    """One decoded radiograph.

    Args:
        pixels: (H, W) uint8, bright bone on dark air.
        original_size: (rows, columns) of the file.
        placement: from pixels of the file to pixels of `pixels`.
        pixel_range: the stored values that became 0 and 255.
        kind: `png`, `jpeg` or `dicom`.
    """

    pixels: UInt8[np.ndarray, "height width"]
    original_size: tuple[int, int]
    placement: Placement
    pixel_range: tuple[float, float]
    kind: str


def read_radiograph(
    path: Path, *, size: int | None = None, fit: Fit = "letterbox", limits: Limits | None = None
) -> Radiograph:
    """Read one file, whatever its name says it is.

    Args:
        path: the file.
        size: side of the square in pixels; None keeps the picture as it is.
        fit: `letterbox` keeps the proportions and pads with black; `squash` does not.
        limits: the largest file to accept.

    Raises:
        UnreadableImage: the file is missing, empty, too large, damaged, or no radiograph.
    """
    limits = limits or Limits()
    path = Path(path)
    try:
        if (length := path.stat().st_size) > limits.bytes:
            raise UnreadableImage(f"{path}: {length} bytes, more than the limit of {limits.bytes}. Is it a radiograph?")
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror or error}. Check the path and its permissions.") from error
    return read_bytes(content, str(path), size=size, fit=fit, limits=limits)


def read_bytes(
    content: bytes, name: str, *, size: int | None = None, fit: Fit = "letterbox", limits: Limits | None = None
) -> Radiograph:
    """Read one file that is in memory; `name` is how messages call it. See `read_radiograph`."""
    limits = limits or Limits()
    if not content:
        raise UnreadableImage(f"{name}: the file is empty. Copy it again from the archive.")
    if content.startswith((_PNG, _JPEG)):
        kind = "png" if content.startswith(_PNG) else "jpeg"
        stored, padding = _read_picture(content, name, limits), None
    elif content[128:132] == _DICOM:
        from trcgl.data.dicom import read_dicom

        kind = "dicom"
        stored, padding = read_dicom(content, name, limits)
    else:
        raise UnreadableImage(f"{name}: not a PNG, JPEG or DICOM file. Convert it, or leave it out of the table.")
    pixels, pixel_range = to_uint8(stored, padding)
    rows, columns = pixels.shape
    placement = Placement(1.0, 1.0, 0.0, 0.0)
    if size is not None:
        pixels, placement = fit_square(pixels, size, fit)
    return Radiograph(pixels, (rows, columns), placement, pixel_range, kind)


def to_uint8(
    stored: Num[np.ndarray, "height width"], padding: Shaped[np.ndarray, "height width"] | None = None
) -> tuple[UInt8[np.ndarray, "height width"], tuple[float, float]]:
    """Stored values to 0-255 by the pixel rule, and the stored values that became 0 and 255.

    Args:
        stored: what the file holds.
        padding: true where a pixel is filling; it takes no part in the range and becomes 0.
    """
    if stored.dtype == np.uint8 and padding is None:
        return stored, (0.0, 255.0)
    seen = stored if padding is None or padding.all() else stored[~padding]
    low, high = (float(one) for one in np.percentile(seen, PERCENTILES))
    if high <= low:
        low, high = float(seen.min()), float(seen.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    pixels = np.clip((stored.astype(np.float32) - low) * scale + 0.5, 0, 255).astype(np.uint8)
    if padding is not None:
        pixels[padding] = 0
    return pixels, (low, high)


def fit_square(
    pixels: UInt8[np.ndarray, "height width"], size: int, fit: Fit = "letterbox"
) -> tuple[UInt8[np.ndarray, "size size"], Placement]:
    """Resize to a square with antialiasing; `letterbox` centers the picture on black."""
    rows, columns = pixels.shape
    if fit == "squash":
        height, width = size, size
    else:
        longer = max(rows, columns)
        height, width = max(1, round(rows * size / longer)), max(1, round(columns * size / longer))
    resized = pixels
    if (height, width) != (rows, columns):
        picture = Image.fromarray(pixels)
        resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))
    top, left = (size - height) // 2, (size - width) // 2
    placement = Placement(width / columns, height / rows, float(left), float(top))
    if (height, width) == (size, size):
        return resized, placement
    square = np.zeros((size, size), np.uint8)
    square[top : top + height, left : left + width] = resized
    return square, placement


def _read_picture(content: bytes, name: str, limits: Limits) -> Num[np.ndarray, "height width"]:
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is lower than ours and only warns; ours is checked below, before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        check_pixels(picture.height, picture.width, name, limits)
        if picture.mode.startswith("I"):
            return np.asarray(picture)
        return np.asarray(picture if picture.mode == "L" else _gray(picture))
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"{name}: announces more pixels than the limit of {limits.pixels}.") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise UnreadableImage(f"{name}: damaged or cut off ({error}). Copy it again from the archive.") from error


def _gray(picture: Image.Image) -> Image.Image:
    # Alpha is dropped, not blended: archives that carry it (NIH) hold the radiograph in the color channels.
    if picture.mode == "LA":
        return picture.getchannel(0)
    return (picture if picture.mode in ("1", "RGB") else picture.convert("RGB")).convert("L")


def check_pixels(rows: int, columns: int, name: str, limits: Limits) -> None:
    """Refuse a picture without pixels or with too many.

    Raises:
        UnreadableImage: it has.
    """
    if rows < 1 or columns < 1:
        raise UnreadableImage(f"{name}: announces {rows} x {columns} pixels. Copy it again from the archive.")
    if rows * columns > limits.pixels:
        raise UnreadableImage(f"{name}: announces {rows} x {columns} pixels, more than the limit of {limits.pixels}.")
