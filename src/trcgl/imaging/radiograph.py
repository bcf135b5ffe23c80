"""Read a PNG, JPEG or DICOM file as a grayscale image, or raise `UnreadableImage` with the reason and the fix.

Gray values follow the pixel rule of `gray`. A DICOM file with a rescale or a window, even without effect, counts as
deeper than 8 bits. MONOCHROME1 is inverted after the VOI LUT. A picture that PatientOrientation or EXIF describes as
mirrored or turned is turned upright, and pixels that are not square are resampled to squares.

Time and memory are bounded for any file: its size in bytes and its announced size in pixels are checked before any
pixel is decoded. The kind of a file is determined by its content, never by its name.
"""

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from trcgl.core.errors import TooLarge, UnreadableImage
from trcgl.imaging.acceptance import blank
from trcgl.imaging.dicom import read_dicom
from trcgl.imaging.dicom_file import is_dicom
from trcgl.imaging.limits import Limits, check_pixels
from trcgl.imaging.orientation import AS_STORED, TURNS, upright
from trcgl.imaging.pictures import read_picture

Fit = Literal["letterbox", "squash"]

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


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
        pixels: (H, W) uint8, bright bone on dark air, upright, square pixels.
        original_size: (rows, columns) of the file.
        placement: from pixels of the file, turned upright, to pixels of `pixels`.
        pixel_range: the gray values of the file that became 0 and 255.
        kind: `png`, `jpeg` or `dicom`.
        turn: how the file was turned upright, a key of `orientation.TURNS`; 1: not at all.
        notes: what was ignored, guessed or corrected, codes of `notes.NOTES`.
    """

    pixels: UInt8[np.ndarray, "height width"]
    original_size: tuple[int, int]
    placement: Placement
    pixel_range: tuple[float, float]
    kind: str
    turn: int = AS_STORED
    notes: tuple[str, ...] = ()


def read_radiograph(
    path: Path,
    *,
    size: int | None = None,
    fit: Fit = "letterbox",
    limits: Limits | None = None,
    accept: Set[str] = frozenset(),
) -> Radiograph:
    """Read a file; its kind is determined by its content.

    Args:
        path: the file.
        size: side of the square in pixels; None keeps the original size.
        fit: `letterbox` pads with black to a square, `squash` distorts to a square.
        limits: the largest file to accept.
        accept: reasons of `core.errors.REASONS` for which a file is not refused.

    Raises:
        UnreadableImage: the file is missing, empty, damaged, or no radiograph.
        NotAccepted: it is readable, but blank or not a chest radiograph for display, and `accept` lacks the reason.
        TooLarge: it has too many bytes or pixels.
        DataError: the decoding process cannot be started.
    """
    return read_bytes(load_file(path, limits=limits), str(path), size=size, fit=fit, limits=limits, accept=accept)


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
    content: bytes,
    name: str,
    *,
    size: int | None = None,
    fit: Fit = "letterbox",
    limits: Limits | None = None,
    accept: Set[str] = frozenset(),
) -> Radiograph:
    """Read a file in memory; messages call it `name`. See `read_radiograph`."""
    limits = limits or Limits()
    if not content:
        raise UnreadableImage(f"{name}: the file is empty. Copy it again from the archive.")
    kind = kind_of(content)
    if kind is None:
        raise UnreadableImage(f"{name}: not a PNG, JPEG or DICOM file. Convert it, or leave it out of the table.")
    image = read_dicom(content, name, limits, accept) if kind == "dicom" else read_picture(content, name, limits)
    if "blank" not in accept and image.pixels.min() == image.pixels.max():
        raise blank(name, "all pixels have the same gray value")
    pixels = image.pixels if image.turn == AS_STORED else upright(image.pixels, image.turn)
    turned = pixels.shape
    pixels = _with_square_pixels(pixels, 1 / image.aspect if TURNS[image.turn][0] else image.aspect, name, limits)
    placement = Placement(1.0, 1.0, 0.0, 0.0)
    square = pixels
    if size is not None:
        square, placement = fit_square(pixels, size, fit)
    if pixels.shape != turned:
        placement = placement._replace(
            scale_x=placement.scale_x * pixels.shape[1] / turned[1],
            scale_y=placement.scale_y * pixels.shape[0] / turned[0],
        )
    rows, columns = image.pixels.shape
    return Radiograph(square, (rows, columns), placement, image.pixel_range, kind, image.turn, image.notes)


def kind_of(content: bytes) -> Literal["png", "jpeg", "dicom"] | None:
    """Kind of a file by its first 132 bytes; None for any other kind."""
    if content.startswith(_PNG):
        return "png"
    if content.startswith(_JPEG):
        return "jpeg"
    return "dicom" if is_dicom(content) else None


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


def _with_square_pixels(
    pixels: UInt8[np.ndarray, "height width"], aspect: float, name: str, limits: Limits
) -> UInt8[np.ndarray, "rows columns"]:
    """Stretch the picture along the longer side of its pixels; `aspect` is their height divided by their width."""
    if aspect == 1:
        return pixels
    rows, columns = pixels.shape
    rows, columns = round(rows * max(1.0, aspect)), round(columns * max(1.0, 1 / aspect))
    check_pixels(rows, columns, name, limits)
    return np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR))
