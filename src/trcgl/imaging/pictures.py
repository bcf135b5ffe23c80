"""Read a PNG or JPEG file as a gray picture. Alpha is dropped, color becomes luminance."""

import io
import struct
import warnings
import zlib

import numpy as np
from jaxtyping import Num, UInt8
from PIL import ExifTags, Image, ImageFile

from trcgl.core.errors import TooLarge, UnreadableImage
from trcgl.imaging.gray import GrayImage, to_uint8
from trcgl.imaging.jpeg import with_end
from trcgl.imaging.limits import DAMAGED, Limits, check_pixels, strict_pillow
from trcgl.imaging.orientation import AS_STORED, TURNS

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, Pillow's weights
_PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")
"""Chunks of a PNG file with pixels or their orientation; others hold text or color profiles."""
_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
"""What Pillow raises on damaged files."""


def read_picture(content: bytes, name: str, limits: Limits) -> GrayImage:
    """Decode a file; `name` is the file in messages.

    Raises:
        UnreadableImage: the file is damaged.
        TooLarge: it announces too many pixels.
    """
    try:
        with strict_pillow(), warnings.catch_warnings():
            # Pillow's own limit is lower than ours and only warns; ours is checked below, before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            notes = set()
            try:
                picture, stored = _decoded_picture(content, name, limits)
            except _ERRORS:
                repaired, note = _repaired(content)
                if repaired is None:
                    raise
                picture, stored = _decoded_picture(repaired, name, limits)
                notes.add(note)
            turn = _turn(picture)
    except Image.DecompressionBombError as error:  # far above our own limit, which it then does not come to
        raise TooLarge(f"{name}: too large to be a radiograph ({error}). It was not decoded.") from error
    except _ERRORS as error:
        raise UnreadableImage(f"{name}: {DAMAGED}") from error
    if turn != AS_STORED:
        notes.add("orientation-applied")
    return GrayImage(*to_uint8(stored), turn, notes=tuple(sorted(notes)))


def _decoded_picture(content: bytes, name: str, limits: Limits) -> tuple[Image.Image, Num[np.ndarray, "height width"]]:
    picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    check_pixels(picture.height, picture.width, name, limits)
    if picture.format == "PNG" and content[24] == 16 and content[25] != 0:
        return picture, _deep_color(picture, content)
    if picture.mode.startswith("I"):
        return picture, np.asarray(picture).astype(np.uint16, copy=False)
    return picture, np.asarray(picture if picture.mode == "L" else _gray(picture))


def _repaired(content: bytes) -> tuple[bytes | None, str]:
    """The file without the defect that lies beside its pixels, and the note of it; None if there is no such defect."""
    if content.startswith(b"\xff\xd8"):
        return with_end(content), "end-missing"
    return _without_comments(content), "comment-ignored"


def _without_comments(content: bytes) -> bytes | None:
    """The chunks of a PNG file that make up its picture; None if it has no others."""
    place, kept, dropped = 8, [content[:8]], False
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] in _PICTURE_CHUNKS:
            kept.append(content[place:end])
        else:
            dropped = True
        place = end
    return b"".join(kept) if dropped else None


def _turn(picture: Image.Image) -> int:
    """EXIF orientation of a decoded picture."""
    try:
        turn = picture.getexif().get(ExifTags.Base.Orientation, AS_STORED)
    except _ERRORS:  # a damaged comment is no reason to refuse a readable picture
        return AS_STORED
    return turn if turn in TURNS else AS_STORED


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
