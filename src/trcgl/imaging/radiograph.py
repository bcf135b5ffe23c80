"""Read a PNG, JPEG or DICOM file as a grayscale image, or raise `UnreadableImage` with the reason and the fix.

Pixel rule: 8-bit files keep their values. Deeper files are stretched from the 0.5th to the 99.5th percentile of their
own pixels, because archives differ in how many of the bits they use; the range is recorded. A DICOM file with a rescale
or a window, even without effect, counts as deeper, whatever its bits. MONOCHROME1 is inverted after the VOI LUT. Alpha
is dropped, color becomes luminance.

Time and memory are bounded for any file: its size in bytes and its announced size in pixels are checked before any
pixel is decoded. The kind of a file is determined by its content, never by its name.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Num, UInt8
from PIL import Image, ImageFile

from trcgl.core.errors import TooLarge, UnreadableImage
from trcgl.imaging.dicom import read_dicom
from trcgl.imaging.limits import DAMAGED, Limits, check_pixels, strict_pillow

Fit = Literal["letterbox", "squash"]

PERCENTILES = (0.5, 99.5)

PIXEL_RULE = (
    "8-bit files as they are; deeper files, and DICOM with a rescale or a window, stretched from the 0.5th to the "
    "99.5th percentile of their own pixels; DICOM after modality LUT and VOI LUT or window, MONOCHROME1 inverted"
)

_PNG, _JPEG, _DICOM = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"DICM"
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, Pillow's weights


class Placement(NamedTuple):
    """Position of the image in its square: `x_out = x * scale_x + offset_x` in pixels, and likewise y."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float


@dataclass(frozen=True)
class Radiograph:
    """A decoded radiograph.

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
    """Read a file; its kind is determined by its content.

    Args:
        path: the file.
        size: side of the square in pixels; None keeps the original size.
        fit: `letterbox` pads with black to a square, `squash` distorts to a square.
        limits: the largest file to accept.

    Raises:
        UnreadableImage: the file is missing, empty, damaged, or no radiograph.
        TooLarge: it has too many bytes or pixels.
        DataError: the decoding process cannot be started.
    """
    return read_bytes(load_file(path, limits=limits), str(path), size=size, fit=fit, limits=limits)


def load_file(path: Path, *, limits: Limits | None = None) -> bytes:
    """The content of a file that is not too large, for `read_bytes` or a digest."""
    path, limits = Path(path), limits or Limits()
    try:
        if (length := path.stat().st_size) > limits.bytes:
            raise TooLarge(f"{path}: {length} bytes, more than the limit of {limits.bytes}. Is it a radiograph?")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror or error}. Check the path and its permissions.") from error


def read_bytes(
    content: bytes, name: str, *, size: int | None = None, fit: Fit = "letterbox", limits: Limits | None = None
) -> Radiograph:
    """Read a file in memory; messages call it `name`. See `read_radiograph`."""
    limits = limits or Limits()
    if not content:
        raise UnreadableImage(f"{name}: the file is empty. Copy it again from the archive.")
    padding, inverted = None, False
    kind = kind_of(content)
    if kind in ("png", "jpeg"):
        stored = _read_picture(content, name, limits)
    elif kind == "dicom":
        stored, padding, inverted = read_dicom(content, name, limits)
    else:
        raise UnreadableImage(f"{name}: not a PNG, JPEG or DICOM file. Convert it, or leave it out of the table.")
    pixels, pixel_range = to_uint8(stored, padding, inverted=inverted)
    rows, columns = pixels.shape
    placement = Placement(1.0, 1.0, 0.0, 0.0)
    if size is not None:
        pixels, placement = fit_square(pixels, size, fit)
    return Radiograph(pixels, (rows, columns), placement, pixel_range, kind)


def kind_of(content: bytes) -> Literal["png", "jpeg", "dicom"] | None:
    """Kind of a file by its first 132 bytes; None for any other kind."""
    if content.startswith(_PNG):
        return "png"
    if content.startswith(_JPEG):
        return "jpeg"
    return "dicom" if content[128:132] == _DICOM else None


def to_uint8(
    stored: Num[np.ndarray, "height width"],
    padding: Bool[np.ndarray, "height width"] | None = None,
    *,
    inverted: bool = False,
) -> tuple[UInt8[np.ndarray, "height width"], tuple[float, float]]:
    """Stored values as 0-255 by the pixel rule, and the stored values that became 0 and 255.

    Args:
        stored: pixel values of the file.
        padding: true where a pixel is padding; it is ignored in the range and becomes 0.
        inverted: whether a small stored value is bright.
    """
    if stored.dtype == np.uint8:
        low, high = 0.0, 255.0
        pixels = 255 - stored if inverted else stored
    else:
        low, high = _range(stored if padding is None or padding.all() else stored[~padding])
        ends = (high, low) if inverted else (low, high)
        pixels = _stretched(stored, *ends)
    if padding is not None:
        pixels = np.where(padding, np.uint8(0), pixels)
    return pixels, (high, low) if inverted else (low, high)


def _range(seen: Num[np.ndarray, "*pixels"]) -> tuple[float, float]:
    """The percentiles of the pixel rule, or the extremes where the percentiles are equal."""
    if seen.dtype == np.uint16:
        # A histogram of 65,536 bins gives np.percentile's value several times faster than sorting millions of pixels.
        rank = np.cumsum(np.bincount(seen.ravel()))
        place = np.multiply(PERCENTILES, (seen.size - 1) / 100)
        below, above = (np.searchsorted(rank, rounded(place), side="right") for rounded in (np.floor, np.ceil))
        low, high = map(float, below + (above - below) * (place - np.floor(place)))
    else:
        low, high = map(float, np.percentile(seen, PERCENTILES))
    return (low, high) if high > low else (float(seen.min()), float(seen.max()))


def _stretched(
    stored: Num[np.ndarray, "height width"], black: float, white: float
) -> UInt8[np.ndarray, "height width"]:
    if stored.dtype == np.uint16:
        return _stretched(np.arange(65536, dtype=np.float32)[None], black, white)[0][stored]
    scale = 255.0 / (white - black) if white != black else 0.0
    return np.clip((stored.astype(np.float32) - black) * scale + 0.5, 0, 255).astype(np.uint8)


def fit_square(
    pixels: UInt8[np.ndarray, "height width"], size: int, fit: Fit = "letterbox"
) -> tuple[UInt8[np.ndarray, "size size"], Placement]:
    """Resize to a square with antialiasing; `letterbox` centers the image on black."""
    rows, columns = pixels.shape
    if fit == "squash":
        height, width = size, size
    else:
        longer = max(rows, columns)
        height, width = max(1, round(rows * size / longer)), max(1, round(columns * size / longer))
    resized = pixels
    if (height, width) != (rows, columns):
        picture = Image.fromarray(pixels)
        # First averaged over whole blocks of pixels, then interpolated: within half a gray level of Pillow's slow way.
        resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0))
    top, left = (size - height) // 2, (size - width) // 2
    placement = Placement(width / columns, height / rows, float(left), float(top))
    if (height, width) == (size, size):
        return resized, placement
    square = np.zeros((size, size), np.uint8)
    square[top : top + height, left : left + width] = resized
    return square, placement


def at_most(pixels: UInt8[np.ndarray, "height width"], side: int) -> UInt8[np.ndarray, "rows columns"]:
    """The image, reduced if its longer side has more than `side` pixels."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _read_picture(content: bytes, name: str, limits: Limits) -> Num[np.ndarray, "height width"]:
    try:
        with strict_pillow(), warnings.catch_warnings():
            # Pillow's own limit is lower than ours and only warns; ours is checked below, before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
            check_pixels(picture.height, picture.width, name, limits)
            if picture.format == "PNG" and content[24] == 16 and content[25] != 0:
                return _deep_color(picture, content)
            if picture.mode.startswith("I"):
                return np.asarray(picture).astype(np.uint16, copy=False)
            return np.asarray(picture if picture.mode == "L" else _gray(picture))
    except Image.DecompressionBombError as error:  # far above our own limit, which it then does not come to
        raise TooLarge(f"{name}: too large to be a radiograph ({error}). It was not decoded.") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise UnreadableImage(f"{name}: {DAMAGED}") from error


def _gray(picture: Image.Image) -> Image.Image:
    # Alpha is dropped, not blended: in archives with alpha (NIH) the radiograph is in the color channels.
    if picture.mode == "LA":
        return picture.getchannel(0)
    return (picture if picture.mode in ("1", "RGB", "RGBA") else picture.convert("RGB")).convert("L")


def _deep_color(picture: Image.Image, content: bytes) -> Num[np.ndarray, "height width"]:
    """Read all 16 bits of the samples of a PNG with color or alpha.

    Pillow keeps only the upper byte of each sample of such a file. The samples are big-endian, so a second decoding
    that calls them little-endian gives their lower bytes. A file with gray and alpha is decoded once, as RGBA: each
    pixel then has the two bytes of gray and the two bytes of alpha.
    """
    if content[25] == 4:
        halves = _decoded(content, "RGBA")
        return halves[..., 0].astype(np.uint16) << 8 | halves[..., 1]
    upper, lower = (_decoded(content, f"{picture.mode};16{order}")[..., :3] for order in "BL")
    color = upper.astype(np.uint16) << 8 | lower
    if (color == color[..., :1]).all():
        return color[..., 0]
    return (color @ np.array(_LUMINANCE, np.float32)).round().astype(np.uint16)


def _decoded(content: bytes, layout: str) -> UInt8[np.ndarray, "height width channels"]:
    picture = Image.open(io.BytesIO(content), formats=("PNG",))
    assert isinstance(picture, ImageFile.ImageFile)
    picture.tile = [tile._replace(args=layout) for tile in picture.tile]
    return np.asarray(picture)
