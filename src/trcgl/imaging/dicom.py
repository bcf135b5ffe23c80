"""Read a DICOM image as a gray picture (PS3.3 C.7.6.3, C.8.11.3, C.11)."""

import hashlib
import warnings
from collections.abc import Set
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from trcgl.core.errors import DataError, UnreadableImage
from trcgl.imaging import acceptance
from trcgl.imaging import dicom_elements as elements
from trcgl.imaging.dicom_file import open_dicom
from trcgl.imaging.dicom_frame import Frame, Header, read_frame, read_header
from trcgl.imaging.dicom_transform import Layout, read_transform
from trcgl.imaging.gray import GrayImage, look_up, to_uint8
from trcgl.imaging.limits import DAMAGED, Limits
from trcgl.imaging.orientation import AS_STORED, turn_of_patient

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
"""The elements that give the height and the width of a pixel; the first valid one counts (PS3.3 C.7.6.3.1.7)."""
_SQUARE = 0.01  # a pixel whose sides differ by less counts as square
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence")


def read_dicom(content: bytes, name: str, limits: Limits, accept: Set[str] = frozenset()) -> GrayImage:
    """Decode a file; `name` is the file in messages.

    `accept`: reasons of `core.errors.REASONS` for which a file is not refused.

    Raises:
        UnreadableImage: pydicom or the decoder is missing, or the file is damaged, multi-frame or color.
        NotAccepted: for a reason that is not in `accept`.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise UnreadableImage(f"{name}: DICOM needs pydicom. Run: pip install 'trcgl-net[dicom]'") from error
    try:
        with warnings.catch_warnings():
            # pydicom warns about values that break the standard, which archives are full of, on every file.
            warnings.simplefilter("ignore")
            return _read(content, name, limits, accept)
    except (DataError, UnreadableImage):
        raise
    except Exception as error:  # pydicom and the decoders behind it raise errors of every kind on damaged files
        raise UnreadableImage(f"{name}: {DAMAGED}") from error


def study_digest(content: bytes) -> str | None:
    """The first 16 digits of the SHA-256 of a file's StudyInstanceUID, or None if it has no UID.

    Whoever has the UID can recognize the study; a table of digests alone identifies no examination.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        uid = elements.text(open_dicom(content, "", Limits()).dataset, "StudyInstanceUID")
    return hashlib.sha256(uid.encode()).hexdigest()[:16] if uid else None


def _read(content: bytes, name: str, limits: Limits, accept: Set[str]) -> GrayImage:
    file = open_dicom(content, name, limits)
    dataset = _with_macros(file.dataset)
    notes = {"encoding-guessed"} if file.guessed else set[str]()
    if file.pixels is None:
        raise UnreadableImage(f"{name}: this DICOM file holds no image ({_without_image(dataset)}). Leave it out.")
    acceptance.check_header(dataset, name, accept)
    header = read_header(dataset, name, limits, notes)
    frame = read_frame(file, header, name)
    if not frame.ended:
        notes.add("end-missing")
    if header.samples == 3 or header.photometric == "PALETTE COLOR":
        pixels, pixel_range = _from_color(frame, header, dataset, name)
        notes.add("gray-from-color")
    else:
        pixels, pixel_range = _from_gray(frame, header, dataset, name, accept, notes)
    turn = turn_of_patient(elements.texts(dataset, "PatientOrientation"), elements.text(dataset, "ViewPosition"))
    if turn != AS_STORED:
        notes.add("orientation-applied")
    return GrayImage(pixels, pixel_range, turn, _aspect(dataset, notes), tuple(sorted(notes)))


def _from_gray(
    frame: Frame, header: Header, dataset: "Dataset", name: str, accept: Set[str], notes: set[str]
) -> tuple[UInt8[np.ndarray, "height width"], tuple[float, float]]:
    # A decoder returns samples right-aligned; only a sample of all bits can be left-aligned as HighBit says.
    shift = max(0, min(header.high, frame.bits - 1) - header.stored + 1)
    transform = read_transform(dataset, Layout(header.stored, shift, header.signed), notes)
    eight_bits = frame.words.dtype == np.uint8 and frame.bits == 8 <= header.stored and not header.signed
    if eight_bits and not transform.steps:
        padding = None if transform.padding is None else transform.grays(frame.words)[1]
        return to_uint8(frame.words, padding, inverted=transform.inverted)
    if frame.words.itemsize > 2:
        gray, padding = transform.grays(frame.words)
        pixels, pixel_range = to_uint8(gray, padding, inverted=transform.inverted)
    else:
        pixels, pixel_range = look_up(frame.words, transform.table(8 * frame.words.itemsize))
    if transform.is_flat(*pixel_range) and "blank" not in accept:
        window = f"{elements.said(dataset, 'WindowCenter')} and {elements.said(dataset, 'WindowWidth')}"
        raise acceptance.blank(name, f"{window}, which shows all pixels in one gray")
    return pixels, pixel_range


def _from_color(
    frame: Frame, header: Header, dataset: "Dataset", name: str
) -> tuple[UInt8[np.ndarray, "height width"], tuple[float, float]]:
    """A gray picture that is stored in color with equal channels."""
    color = frame.words
    if header.samples == 1:
        from pydicom.pixels import apply_color_lut

        table = "RedPaletteColorLookupTableData"
        if not elements.has(dataset, table):
            raise UnreadableImage(f"{name}: {elements.element(table)} is missing. Copy it again from the archive.")
        color = apply_color_lut(Layout(header.stored, 0, header.signed).stored(frame.words), dataset)
    channels = color[..., :3]
    spread = channels.max(-1) - channels.min(-1)
    # Lossy compression moves the channels of a gray picture apart by a few levels.
    if spread.max() > 4 * (1 if color.itemsize == 1 else 257):
        raise UnreadableImage(
            f"{name}: {elements.said(dataset, 'PhotometricInterpretation')}: it is in color. Convert it to gray first."
        )
    return to_uint8(channels[..., 1])


def _aspect(dataset: "Dataset", notes: set[str]) -> float:
    """Height of a pixel divided by its width."""
    for keyword in _SPACINGS:
        spacing = elements.numbers(dataset, keyword)
        if not spacing:
            continue
        if len(spacing) != 2 or not all(side > 0 for side in spacing):
            notes.add("aspect-ignored")
            continue
        aspect = spacing[0] / spacing[1]
        if abs(aspect - 1) < _SQUARE:
            return 1.0
        notes.add("aspect-applied")
        return aspect
    return 1.0


def _with_macros(dataset: "Dataset") -> "Dataset":
    """The dataset with the elements that an enhanced image keeps for its single frame (PS3.3 C.7.6.16)."""
    for group in (item for keyword in _GROUPS for item in elements.items(dataset, keyword)[:1]):
        for item in (item for macro in _MACROS for item in elements.items(group, macro)[:1]):
            for tag in list(item.keys()):
                dataset[tag] = item.get_item(tag)
    return dataset


def _without_image(dataset: "Dataset") -> str:
    for keyword in ("FloatPixelData", "DoubleFloatPixelData"):
        if keyword in dataset:
            return f"{elements.element(keyword)} holds floating-point values"
    return f"{elements.element('PixelData')} is missing"
