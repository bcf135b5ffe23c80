"""DICOM pixels through pydicom: modality LUT, VOI LUT or window, photometric interpretation (PS3.3 C.7.6.3, C.11)."""

import hashlib
import io
import struct
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Num

from trcgl.core.errors import DataError, UnreadableImage
from trcgl.imaging.gdcm_process import GdcmProcess
from trcgl.imaging.limits import DAMAGED, Limits, check_pixels, strict_pillow

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1")
_RLE = "1.2.840.10008.1.2.5"
_DECODERS = {
    _RLE: "pydicom",
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    **dict.fromkeys(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"), "pylibjpeg"),  # JPEG 2000
    **dict.fromkeys(("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202"), "pylibjpeg"),
    "1.2.840.10008.1.2.4.203": "pylibjpeg",  # and high-throughput JPEG 2000
}
"""Transfer syntax to the decoder of pydicom that survives damaged files; gdcm decodes other compressed files."""

_gdcm = GdcmProcess()


class DicomPixels(NamedTuple):
    """A single-frame grayscale image before the pixel rule."""

    values: Num[np.ndarray, "height width"]
    padding: Bool[np.ndarray, "height width"] | None  # true where a pixel is padding, or None
    inverted: bool  # whether a small value is bright (MONOCHROME1)


def read_dicom(content: bytes, name: str, limits: Limits) -> DicomPixels:
    """Decode a file; the first of several windows is used, and a VOI LUT is preferred to a window.

    Raises:
        UnreadableImage: pydicom or the decoder is missing, or the file is damaged, deflated, multi-frame or color.
    """
    try:
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError as error:
        raise UnreadableImage(f"{name}: DICOM needs pydicom. Run: pip install 'trcgl-net[dicom]'") from error
    try:
        with warnings.catch_warnings():
            # pydicom warns about values that break the standard, which archives are full of, on every file.
            warnings.simplefilter("ignore")
            if _transfer_syntax(content) in _DEFLATED:
                raise UnreadableImage(
                    f"{name}: deflated DICOM is refused, as its size is not known before it is inflated. "
                    "Convert it to another transfer syntax."
                )
            dataset = pydicom.dcmread(io.BytesIO(content))
            _check(dataset, name, limits)
            stored = _stored(dataset, content)
            if stored.ndim != 2:
                raise ValueError(f"its pixels have the shape {stored.shape}")
            values = np.asarray(apply_voi_lut(apply_modality_lut(stored, dataset), dataset))
            inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
            return DicomPixels(values, _padding(stored, dataset), inverted)
    except (DataError, UnreadableImage):
        raise
    except Exception as error:  # pydicom and the decoders behind it raise errors of every kind on damaged files
        raise UnreadableImage(f"{name}: {DAMAGED}") from error


def study_digest(content: bytes) -> str | None:
    """The first 16 digits of the SHA-256 of a file's StudyInstanceUID, or None if it has no UID.

    Whoever has the UID can recognize the study; a table of digests alone identifies no examination.
    """
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
        uid = str(header.get("StudyInstanceUID") or "").strip()
    return hashlib.sha256(uid.encode()).hexdigest()[:16] if uid else None


def _transfer_syntax(content: bytes) -> str:
    """The transfer syntax, from the file meta information only; reading further would already inflate."""
    from pydicom.filereader import read_dataset

    meta = read_dataset(io.BytesIO(content[132:]), False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    return str(meta.get("TransferSyntaxUID", ""))


def _check(dataset: "Dataset", name: str, limits: Limits) -> None:
    """Refuse files without a single gray frame, and files that would decode to more pixels than they announce."""
    if "PixelData" not in dataset:
        raise UnreadableImage(f"{name}: this DICOM file holds no image. Leave it out.")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    check_pixels(rows, columns, name, limits)
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise UnreadableImage(f"{name}: has several frames; a radiograph has one. Extract the frame first.")
    color = f"{name}: is in color; a radiograph is MONOCHROME1 or MONOCHROME2. Convert it to gray first."
    gray = dataset.get("PhotometricInterpretation", "MONOCHROME2") in ("MONOCHROME1", "MONOCHROME2")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or not gray:
        raise UnreadableImage(color)
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        return
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if dataset.file_meta.TransferSyntaxUID == _RLE:
        if _rle_length(frame) > 2 * rows * columns * (dataset.BitsAllocated // 8) + 256:
            raise UnreadableImage(f"{name}: its run lengths exceed {rows} x {columns} pixels. Copy it again.")
        return
    announced = _codestream(frame)
    if announced[:2] != (rows, columns):
        raise UnreadableImage(
            f"{name}: the header says {rows} x {columns} pixels and the compressed image "
            f"{announced[0]} x {announced[1]}. Copy it again from the archive."
        )
    if announced[2] != 1:
        raise UnreadableImage(color)


def _stored(dataset: "Dataset", content: bytes) -> Num[np.ndarray, "height width"]:
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return dataset.pixel_array
    if syntax not in _DECODERS:
        return _gdcm.pixels(content)
    dataset.pixel_array_options(decoding_plugin=_DECODERS[syntax])
    with strict_pillow():
        return dataset.pixel_array


def _codestream(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and components that a JPEG, JPEG-LS or JPEG 2000 codestream announces."""
    if frame[:2] != b"\xff\xd8":
        start = frame.index(b"\xff\x4f\xff\x51")  # SOC, SIZ; a JP2 file has boxes before it
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return bottom - top, right - left, struct.unpack_from(">H", frame, start + 40)[0]
    place = 2
    while True:
        marker, length = struct.unpack_from(">HH", frame, place)
        # SOF0-SOF15 and JPEG-LS SOF55; C4, C8 and CC in between are tables
        if (0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC)) or marker == 0xFFF7:
            rows, columns, components = struct.unpack_from(">HHB", frame, place + 5)
            return rows, columns, components
        place += 2 + length


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


def _padding(stored: np.ndarray, dataset: "Dataset") -> Bool[np.ndarray, "height width"] | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    padding = (stored >= min(value, limit)) & (stored <= max(value, limit))
    return padding if padding.any() else None
