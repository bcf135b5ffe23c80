"""Elements of a DICOM file that identify its examination; read only where a user asks for them."""

import warnings

from trcgl.imaging.dicom_file import open_dicom
from trcgl.imaging.limits import Limits

KEYWORDS = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_instance_uid": "SOPInstanceUID",
    "accession_number": "AccessionNumber",
}
"""Name in answers and tables to keyword of the element."""


def identifiers(content: bytes) -> dict[str, str | None]:
    """The identifiers of a DICOM file by the names of `KEYWORDS`; None where an element is missing or empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = open_dicom(content, "", Limits()).dataset
        header.decode()
        return {name: str(header.get(keyword) or "").strip() or None for name, keyword in KEYWORDS.items()}
