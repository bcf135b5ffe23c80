"""The container of a DICOM file: preamble, file meta information, transfer syntax, elements, and where the pixels lie.

Files without a preamble, without file meta information or without a transfer syntax are read if their encoding is
plain. Deflated files are inflated up to the limit on the size of a file.
"""

import io
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from trcgl.core.errors import TooLarge, UnreadableImage
from trcgl.imaging.dicom_elements import text
from trcgl.imaging.limits import DAMAGED, Limits

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAGIC, MAGIC_PLACE = b"DICM", 128
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNCOMPRESSED = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)

_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_FIRST_VRS = (b"AE", b"CS", b"DA", b"LO", b"OB", b"SH", b"TM", b"UI", b"UL", b"UN", b"US", b"ST", b"SQ")


class DicomFile(NamedTuple):
    """The elements of a file before its pixels, and its pixels."""

    dataset: "Dataset"
    syntax: str  # UID of the transfer syntax
    guessed: bool  # whether the file does not name it
    pixels: memoryview | None  # value of PixelData, perhaps cut off; None if the file has none
    announced: int | None  # length of the value in bytes; None if it is in fragments
    vr: str  # of PixelData; empty in implicit VR

    @property
    def big_endian(self) -> bool:
        """Whether words have their upper byte first."""
        return self.syntax == BIG_ENDIAN


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts with these (at least 132) bytes is a DICOM file, with or without a preamble."""
    return start[MAGIC_PLACE:][:4] == MAGIC or _is_bare(start)


def open_dicom(content: bytes, name: str, limits: Limits) -> DicomFile:
    """Read the elements before the pixels; `name` is the file in messages.

    Raises:
        UnreadableImage: the file is cut off before its pixels.
        TooLarge: it inflates to more than the limit.
    """
    from pydicom.filereader import read_dataset

    stream = io.BytesIO(content)
    stream.seek(MAGIC_PLACE + 4 if content[MAGIC_PLACE : MAGIC_PLACE + 4] == MAGIC else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    syntax = text(meta, "TransferSyntaxUID")
    if syntax == DEFLATED:
        content = _inflated(memoryview(content)[stream.tell() :], name, limits)
        stream = io.BytesIO(content)
    guessed = not syntax
    if guessed:
        syntax = _guessed(content[stream.tell() : stream.tell() + 6])
    implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN
    dataset = read_dataset(stream, implicit, little, stop_when=lambda tag, vr, length: tag == _PIXEL_DATA)
    pixels, announced, vr = _pixels(content, stream.tell(), "<" if little else ">")
    return DicomFile(dataset, syntax, guessed, pixels, announced, vr)


def frame_of(file: DicomFile, name: str) -> tuple[bytes, bool]:
    """The compressed frame of a single-frame image, and whether the delimiter after its fragments is there (PS3.5 A.4).

    Raises:
        UnreadableImage: the value of PixelData is cut off or not in fragments.
    """
    value = file.pixels
    assert value is not None
    parts, place, closed = [], 0, False
    while place + 8 <= len(value):
        group, number, length = struct.unpack_from("<HHI", value, place)
        if (group, number) != (0xFFFE, 0xE000):
            closed = (group, number) == (0xFFFE, 0xE0DD)
            break
        if place + 8 + length > len(value):
            raise UnreadableImage(f"{name}: cut off within PixelData (7FE0,0010). Copy it again from the archive.")
        parts.append(value[place + 8 : place + 8 + length])
        place += 8 + length
    frame = b"".join(parts[1:])  # the first item is the Basic Offset Table
    if not frame:
        raise UnreadableImage(f"{name}: PixelData (7FE0,0010) holds no compressed image. Copy it again.")
    return frame, closed or file.announced is not None


def _is_bare(start: bytes) -> bool:
    """Whether a file begins with an element of group 2 or 8 in little-endian VR, as a file without a preamble does."""
    if len(start) < 16 or start[:2] not in (b"\2\0", b"\10\0") or start[3]:
        return False
    return start[4:6] in _FIRST_VRS or (start[:2] == b"\10\0" and int.from_bytes(start[4:8], "little") <= 64)


def _guessed(start: bytes) -> str:
    """The plain transfer syntax in which these first six bytes of a dataset are an element."""
    if len(start) == 6 and start[4:].isalpha() and start[4:].isupper():
        return BIG_ENDIAN if start[:1] == b"\0" else EXPLICIT
    return IMPLICIT


def _inflated(packed: memoryview, name: str, limits: Limits) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(packed, limits.bytes)
    except zlib.error as error:
        raise UnreadableImage(f"{name}: {DAMAGED}") from error
    if not inflater.eof and inflater.unconsumed_tail:
        raise TooLarge(f"{name}: inflates to more than the limit of {limits.bytes} bytes. Is it a radiograph?")
    return content


def _pixels(content: bytes, place: int, order: str) -> tuple[memoryview | None, int | None, str]:
    """Value, announced length and VR of the PixelData element at a place."""
    head = content[place : place + 12]
    if len(head) < 8:
        return None, None, ""
    group, number = struct.unpack(f"{order}HH", head[:4])
    if (group << 16 | number) != _PIXEL_DATA:
        return None, None, ""
    vr = head[4:6].decode("latin-1") if head[4:6] in (b"OB", b"OW", b"UN") else ""
    at = 8 if vr else 4
    if len(head) < at + 4:
        return None, None, ""
    (length,) = struct.unpack(f"{order}I", head[at : at + 4])
    value = memoryview(content)[place + at + 4 :]
    return (value, None, vr) if length == _UNDEFINED else (value[:length], length, vr)
