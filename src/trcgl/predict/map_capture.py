"""Maps over a radiograph as DICOM Secondary Capture images (PS3.3 A.8.1), for viewers of an archive.

A capture inherits the patient and study modules of its radiograph, as a structured report does.
"""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from trcgl import __version__
from trcgl.core.errors import DataError
from trcgl.core.notice import RESEARCH_USE
from trcgl.imaging.file_process import ReadFile
from trcgl.predict.overlay import heat, over, small_map

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SERIES = 2


def findings_to_map(scores: Float[np.ndarray, " findings"], positive: Sequence[bool | None], count: int) -> list[int]:
    """Columns of `count` findings: positive findings first, then the highest scores."""
    return sorted(range(len(scores)), key=lambda column: (not positive[column], -scores[column]))[:count]


def overlay_picture(
    read: ReadFile, grid: Float[np.ndarray, "rows columns"], caption: str
) -> UInt8[np.ndarray, "height width 3"]:
    """A radiograph with one map and, in a strip below it, a caption and the research-use notice.

    `read`: the radiograph with its preview, whose size the result has. `grid`: the map on the grid of the network.
    """
    if read.preview is None:
        raise ValueError("the radiograph was read without its preview")
    picture = Image.open(io.BytesIO(read.preview))
    layer = heat(small_map(grid, read.original_size, read.placements[0], len(read.pictures[0]), max(picture.size)))
    pixels = over(np.asarray(picture.resize((layer.shape[1], layer.shape[0]))), layer)
    # In the picture as well, because a viewer shows pixels without their DICOM elements.
    size = max(12, pixels.shape[1] // 40)
    strip = Image.new("RGB", (pixels.shape[1], 3 * size))
    text = ImageDraw.Draw(strip)
    font = ImageFont.load_default(size)
    text.text((size // 2, size // 8), caption, "white", font)
    text.text((size // 2, size // 8 + 3 * size // 2), RESEARCH_USE, "white", font)
    return np.concatenate([pixels, np.asarray(strip)])


def map_capture(
    source: "Dataset", pixels: UInt8[np.ndarray, "height width 3"], *, description: str, series: str, number: int
) -> "Dataset":
    """A Secondary Capture image in the study of `source`.

    Args:
        source: header of the radiograph.
        pixels: RGB picture.
        description: what the picture shows.
        series: SeriesInstanceUID, the same for all captures of a study.
        number: number of the capture in its series, from 1.

    Raises:
        DataError: the elements of the patient or study break the standard.
    """
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            capture = hd.sc.SCImage.from_ref_dataset(
                ref_dataset=source,
                pixel_array=pixels,
                photometric_interpretation="RGB",
                bits_allocated=8,
                coordinate_system="PATIENT",
                patient_orientation=("L", "F"),  # required here, emptied below
                series_instance_uid=series,
                series_number=_SERIES,
                sop_instance_uid=hd.UID(),
                instance_number=number,
                manufacturer="trcgl",
                manufacturer_model_name="TRCGL-Net",
                software_versions=__version__,
                series_description=RESEARCH_USE,
                specific_character_set="ISO_IR 192",
                transfer_syntax_uid=ExplicitVRLittleEndian,
            )
        except Exception:  # its message may quote an element, which may name the patient
            raise DataError("no map, because the patient or study elements break the DICOM standard.") from None
    capture["PatientOrientation"].value = None  # unknown
    capture.Laterality = ""  # of a paired body part, which a chest is not
    capture.ImageComments = capture.DerivationDescription = description
    capture.BurnedInAnnotation = "NO"  # the text in the picture identifies nobody
    return capture
