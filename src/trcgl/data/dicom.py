"""DICOM pixels through pydicom: modality LUT, VOI LUT or window, photometric interpretation (PS3.3 C.7.6.3, C.11)."""

import io
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Num

from trcgl.core.errors import UnreadableImage

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from trcgl.data.radiograph import Limits

_DEFLATED = "1.2.840.10008.1.2.1.99"


def read_dicom(
    content: bytes, name: str, limits: "Limits"
) -> tuple[Num[np.ndarray, "height width"], Bool[np.ndarray, "height width"] | None]:
    """Presentation values of a single-frame grayscale image, and where they are padding.

    Raises:
        UnreadableImage: pydicom or the decoder is missing, or the file is damaged, deflated, multi-frame or color.
    """
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError as error:
        raise UnreadableImage(f"{name}: DICOM needs pydicom. Run: pip install 'trcgl-net[dicom]'") from error
    from trcgl.data.radiograph import check_pixels

    # The syntax is read from the group-2 header: a deflated data set would be inflated, whatever its size, on reading.
    if _DEFLATED.encode() in content[:2048]:
        raise UnreadableImage(f"{name}: deflated DICOM is refused (its size is not known before it is inflated).")
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
        if "PixelData" not in dataset:
            raise UnreadableImage(f"{name}: this DICOM file holds no image.")
        check_pixels(int(dataset.Rows), int(dataset.Columns), name, limits)
        if int(dataset.get("NumberOfFrames") or 1) > 1:
            raise UnreadableImage(f"{name}: has several frames; a radiograph has one. Extract the frame first.")
        if int(dataset.get("SamplesPerPixel") or 1) != 1:
            raise UnreadableImage(f"{name}: is in color; a radiograph is MONOCHROME1 or MONOCHROME2.")
        stored = dataset.pixel_array
        padding = _padding(stored, dataset)
        values = np.asarray(apply_voi_lut(apply_modality_lut(stored, dataset), dataset))
    except UnreadableImage:
        raise
    except (
        InvalidDicomError, OSError, ValueError, KeyError, TypeError, AttributeError,
        IndexError, NotImplementedError, RuntimeError, EOFError,
    ) as error:  # fmt: skip
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableImage(
            f"{name}: cannot be decoded ({what}). Copy it again; `trcgl doctor` lists the decoders."
        ) from error
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        values = values.max() + values.min() - values
    return values, padding


def _padding(stored: np.ndarray, dataset: "Dataset") -> Bool[np.ndarray, "height width"] | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    padding = (stored >= min(value, limit)) & (stored <= max(value, limit))
    return padding if padding.any() else None
