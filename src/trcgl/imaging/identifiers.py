"""Elements of a DICOM file that identify its examination; read only where a user asks for them."""

import io
import warnings

KEYWORDS = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_instance_uid": "SOPInstanceUID",
    "accession_number": "AccessionNumber",
}
"""Name in answers and tables to keyword of the element."""


def identifiers(content: bytes) -> dict[str, str | None]:
    """The identifiers of a DICOM file by the names of `KEYWORDS`; None where an element is missing or empty."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(
            io.BytesIO(content), stop_before_pixels=True, specific_tags=[*KEYWORDS.values(), "SpecificCharacterSet"]
        )
        return {name: str(header.get(keyword) or "").strip() or None for name, keyword in KEYWORDS.items()}
