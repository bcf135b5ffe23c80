"""JPEG streams of one image: what a header announces, and decoding with Pillow."""

import io
import struct
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from trcgl.imaging.limits import strict_pillow

END = b"\xff\xd9"
_FRAMES = (*(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC)), 0xF7)
"""SOF0-SOF15 and JPEG-LS SOF55; C4, C8 and CC in between are tables."""
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)


class Announced(NamedTuple):
    """What the header of a compressed image says."""

    rows: int
    columns: int
    components: int
    bits: int  # of a sample
    progressive: bool = False


def announced(frame: bytes) -> Announced:
    """The size that a JPEG, JPEG-LS or JPEG 2000 codestream announces.

    Raises:
        ValueError, IndexError, struct.error: it is no such codestream.
    """
    if frame[:2] != b"\xff\xd8":
        start = frame.index(b"\xff\x4f\xff\x51")  # SOC, SIZ; a JP2 file has boxes before it
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        (components,) = struct.unpack_from(">H", frame, start + 40)
        return Announced(bottom - top, right - left, components, (frame[start + 42] & 0x7F) + 1)
    place = 2
    while True:
        if frame[place] != 0xFF:
            raise ValueError("no marker follows a segment")
        while frame[place] == 0xFF:  # fill bytes may precede a marker (ITU-T T.81 B.1.1.2)
            place += 1
        marker, (length,) = frame[place], struct.unpack_from(">H", frame, place + 1)
        if marker in _FRAMES:
            bits, rows, columns, components = struct.unpack_from(">BHHB", frame, place + 3)
            return Announced(rows, columns, components, bits, marker in _PROGRESSIVE)
        place += 1 + length


def with_end(frame: bytes) -> bytes | None:
    """The stream with its missing end marker, or None if more than the marker is missing.

    Nothing is missing if bytes that are added before the end marker change no pixel: a decoder would use them in place
    of missing ones. A progressive stream may lack whole scans, so it is not completed.
    """
    if frame.rstrip(b"\0").endswith(END) or announced(frame).progressive:
        return None
    body = frame.removesuffix(END[:1])
    completed, probe = body + END, body + b"\x55" * 64 + END
    return completed if np.array_equal(decoded(completed), decoded(probe)) else None


def decoded(frame: bytes) -> UInt8[np.ndarray, "height width ..."]:
    """The pixels of an 8-bit JPEG stream by Pillow."""
    with strict_pillow():
        return np.asarray(Image.open(io.BytesIO(frame), formats=("JPEG",)))
