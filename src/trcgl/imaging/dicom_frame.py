"""The words of the single frame of a DICOM image, by transfer syntax."""

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Num

from trcgl.core.errors import UnreadableImage
from trcgl.imaging import dicom_elements as elements
from trcgl.imaging.dicom_file import UNCOMPRESSED, DicomFile, frame_of
from trcgl.imaging.gdcm_process import GdcmProcess
from trcgl.imaging.jpeg import announced, decoded, with_end
from trcgl.imaging.limits import DAMAGED, Limits, check_pixels

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_RLE = "1.2.840.10008.1.2.5"
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")  # baseline; extended, of 8 or 12 bits
_BY_GDCM = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 81))  # lossless JPEG, JPEG-LS
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))  # and HTJ2K
_PLUGINS = {_RLE: "pydicom", **dict.fromkeys(_JPEG, "pillow"), **dict.fromkeys(_JPEG_2000, "pylibjpeg")}
"""Transfer syntax to the decoder of pydicom that survives damaged files."""
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")

_gdcm = GdcmProcess()


class Header(NamedTuple):
    """The Image Pixel module (PS3.3 C.7.6.3), checked."""

    rows: int
    columns: int
    samples: int  # 1 or 3
    photometric: str  # upper case
    allocated: int  # bits of a word: 8, 16 or 32
    stored: int  # bits of the value in it
    high: int  # highest bit of the value
    signed: bool
    planar: int


class Frame(NamedTuple):
    """Words as they were stored or compressed."""

    words: Num[np.ndarray, "height width ..."]
    bits: int  # bits of a word or of a compressed sample
    ended: bool  # whether the marks of its end were there


def read_header(dataset: "Dataset", name: str, limits: Limits, notes: set[str]) -> Header:
    """The checked header of a single-frame image.

    Raises:
        UnreadableImage: an element is missing, or its value is impossible or not supported.
    """

    def required(keyword: str) -> int:
        value = elements.integer(dataset, keyword)
        if value is None:
            raise UnreadableImage(f"{name}: {elements.said(dataset, keyword)}. Copy it again from the archive.")
        return value

    def refused(keyword: str, advice: str) -> UnreadableImage:
        return UnreadableImage(f"{name}: {elements.said(dataset, keyword)}. {advice}")

    rows, columns = required("Rows"), required("Columns")
    check_pixels(rows, columns, name, limits)
    frames = elements.integer(dataset, "NumberOfFrames")
    if frames is None and elements.has(dataset, "NumberOfFrames"):
        raise refused("NumberOfFrames", "Copy it again from the archive.")
    if (frames or 1) > 1:
        raise refused(
            "NumberOfFrames", "A radiograph has one frame. Extract one first, for example with `dcm2pnm +F 1` of DCMTK."
        )
    photometric = "".join(elements.text(dataset, "PhotometricInterpretation").upper().split())
    if not photometric:
        raise refused("PhotometricInterpretation", "It says whether small values are bright. Copy it again.")
    photometric = "PALETTE COLOR" if photometric in ("PALETTECOLOR", "PALETTE") else photometric
    gray = photometric in _GRAY or photometric == "PALETTE COLOR"
    if not gray and photometric not in _COLOR:
        raise refused("PhotometricInterpretation", "A radiograph is MONOCHROME1 or MONOCHROME2. Leave it out.")
    samples = elements.integer(dataset, "SamplesPerPixel") or (1 if gray else 3)
    if samples != (1 if gray else 3):
        also = elements.said(dataset, "PhotometricInterpretation")
        raise refused("SamplesPerPixel", f"{also}. It is in color, or its header is wrong. Convert it to gray first.")
    allocated, stored = required("BitsAllocated"), required("BitsStored")
    if allocated not in (8, 16, 32):
        raise refused("BitsAllocated", "Radiographs have 8, 16 or 32. Leave it out.")
    if not 1 <= stored <= allocated:
        also = elements.said(dataset, "BitsAllocated")
        raise refused("BitsStored", f"{also}. Copy it again from the archive.")
    high = elements.integer(dataset, "HighBit")
    if high is not None and not stored - 1 <= high < allocated:
        notes.add("high-bit-ignored")
        high = None
    signed, planar = required("PixelRepresentation") == 1, elements.integer(dataset, "PlanarConfiguration") or 0
    high = stored - 1 if high is None else high
    return Header(rows, columns, samples, photometric, allocated, stored, high, signed, planar)


def read_frame(file: DicomFile, header: Header, name: str) -> Frame:
    """The words of the frame; for color, its channels as RGB in the last axis.

    Raises:
        UnreadableImage: the frame is cut off, compressed in an unknown way, or other than the header says.
    """
    if file.syntax in UNCOMPRESSED:
        if file.announced is None:
            what = "is missing" if file.guessed else "says that the image is not compressed"
            raise UnreadableImage(
                f"{name}: TransferSyntaxUID (0002,0010) {what}, and PixelData is compressed. Copy it again."
            )
        return Frame(_native(file, header, name), header.allocated, True)
    if file.syntax not in (*_PLUGINS, *_BY_GDCM):
        raise UnreadableImage(
            f"{name}: TransferSyntaxUID (0002,0010) is {file.syntax}, for which there is no decoder. Convert it to "
            "another one."
        )
    frame, closed = frame_of(file, name)
    if file.syntax == _RLE:
        if _rle_length(frame) > 2 * header.rows * header.columns * header.samples * (header.allocated // 8) + 256:
            raise UnreadableImage(
                f"{name}: its run lengths exceed {header.rows} x {header.columns} pixels. Copy it again."
            )
        return Frame(_by_pydicom(frame, file.syntax, header), header.allocated, closed)
    found = _compressed(frame, file.syntax, header, name)
    return found._replace(ended=found.ended and closed)


def _compressed(frame: bytes, syntax: str, header: Header, name: str) -> Frame:
    found = announced(frame)
    if (found.rows, found.columns) != (header.rows, header.columns):
        raise UnreadableImage(
            f"{name}: Rows and Columns (0028,0010), (0028,0011) say {header.rows} x {header.columns} pixels and the "
            f"compressed image {found.rows} x {found.columns}. Copy it again from the archive."
        )
    if found.components != header.samples:
        raise UnreadableImage(
            f"{name}: SamplesPerPixel (0028,0002) is {header.samples} and the compressed image has {found.components} "
            "components: it is in color, or its header is wrong. Convert it to gray first."
        )
    if found.bits > (header.allocated if header.allocated > 8 else 8):
        raise UnreadableImage(
            f"{name}: BitsAllocated (0028,0100) is {header.allocated} and the compressed image has {found.bits} bits. "
            "Copy it again from the archive."
        )
    if header.samples == 3 and (syntax in _BY_GDCM or found.bits > 8):
        raise UnreadableImage(
            f"{name}: PhotometricInterpretation (0028,0004) is {header.photometric}: it is in color. Convert it to "
            "gray first."
        )
    ended = True
    if syntax in _JPEG and found.bits <= 8:
        try:
            words = _jpeg(frame, syntax, header)
        except OSError:
            completed = with_end(frame)
            if completed is None:
                raise
            words, ended = _jpeg(completed, syntax, header), False
    elif syntax in _JPEG_2000:
        words = _by_pydicom(frame, syntax, header)
    else:
        words = _gdcm.pixels(frame, syntax, header.rows, header.columns, found.bits)
    if words.shape[:2] != (header.rows, header.columns):
        raise UnreadableImage(f"{name}: {DAMAGED}")
    return Frame(words, found.bits, ended)


def _native(file: DicomFile, header: Header, name: str) -> Num[np.ndarray, "height width ..."]:
    assert file.pixels is not None
    samples = header.samples
    # In YBR_FULL_422 two pixels share their color.
    length = header.rows * header.columns * (2 if header.photometric == "YBR_FULL_422" else samples)
    length *= header.allocated // 8
    if len(file.pixels) < length:
        raise UnreadableImage(
            f"{name}: PixelData (7FE0,0010) has {len(file.pixels)} bytes, and Rows, Columns and BitsAllocated need "
            f"{length}: it is cut off, or its header is wrong. Copy it again from the archive."
        )
    if samples == 3:
        return _by_pydicom(bytes(file.pixels[: length + length % 2]), file.syntax, header)
    value = file.pixels[:length]
    if header.allocated == 8 and file.big_endian and file.vr == "OW":  # pairs of bytes are exchanged
        whole = np.frombuffer(file.pixels[: length + length % 2], "u1")
        value = memoryview(whole.reshape(-1, 2)[:, ::-1].tobytes())[:length]
    kind = np.dtype(f"{'>' if file.big_endian else '<'}u{header.allocated // 8}")
    words = np.frombuffer(value, kind).reshape(header.rows, header.columns)
    return words.astype(kind.newbyteorder("="), copy=False)


def _jpeg(frame: bytes, syntax: str, header: Header) -> Num[np.ndarray, "height width ..."]:
    return decoded(frame) if header.samples == 1 else _by_pydicom(frame, syntax, header)


def _by_pydicom(frame: bytes, syntax: str, header: Header) -> Num[np.ndarray, "height width ..."]:
    """Decode with a decoder of pydicom; color becomes RGB, signed samples become words."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    options: Any = {
        "rows": header.rows,
        "columns": header.columns,
        "number_of_frames": 1,
        "samples_per_pixel": header.samples,
        "photometric_interpretation": header.photometric,
        "planar_configuration": header.planar,
        "bits_allocated": header.allocated,
        "bits_stored": header.stored,
        "pixel_representation": int(header.signed),
        "pixel_keyword": "PixelData",
    }
    if header.samples == 1:  # as they are: `Layout` takes the value out of the word
        options |= {"correct_unused_bits": False, "apply_j2k_sign_correction": False}
    value = frame if syntax in UNCOMPRESSED else encapsulate([frame])
    decoder, plugin = get_decoder(syntax), _PLUGINS.get(syntax, "")
    words, _ = decoder.as_array(value, raw=header.samples == 1, decoding_plugin=plugin, **options)
    return words.view(f"u{words.itemsize}") if words.dtype.kind == "i" else words


def _rle_length(frame: bytes) -> int:
    """Decoded length in bytes of a PackBits frame (PS3.5 Annex G), computed without decoding it."""
    segments, *offsets = struct.unpack_from("<16I", frame)
    ends = [*offsets[1:segments], len(frame)]
    total = 0
    for place, end in zip(offsets[:segments], ends, strict=False):
        while place < min(end, len(frame)) - 1:
            code = frame[place]
            total += code + 1 if code < 128 else 257 - code if code > 128 else 0
            place += code + 2 if code < 128 else 2 if code > 128 else 1
    return total
