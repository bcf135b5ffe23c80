"""Find the DICOM files of an accession number, a study or an instance by their headers."""

from collections import defaultdict
from pathlib import Path
from typing import Literal

from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.dataset.image_files import below

DicomKey = Literal["accession", "study", "sop"]
ELEMENTS: dict[str, str] = {"accession": "AccessionNumber", "study": "StudyInstanceUID", "sop": "SOPInstanceUID"}
_SKIPPED = (".png", ".jpg", ".jpeg", ".csv", ".tsv", ".gz", ".parquet", ".txt", ".json", ".xml", ".html", ".pdf")


def files_by_key(root: Path, key: DicomKey) -> dict[str, list[str]]:
    """The images of each accession number, StudyInstanceUID or SOPInstanceUID below a folder, as sorted paths.

    Only headers are read. Files without pixels, such as structured reports, and deflated files, whose header cannot be
    read alone, are left out.

    Raises:
        DataError: pydicom is not installed, or no DICOM image has the element.
    """
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
        from pydicom.filereader import read_file_meta_info
        from pydicom.uid import DeflatedExplicitVRLittleEndian
    except ImportError as error:
        raise DataError("DICOM headers need pydicom. Run: pip install 'trcgl-net[dicom]'") from error
    element = ELEMENTS[key]
    found: dict[str, list[str]] = defaultdict(list)
    paths = sorted(path for path in below(root) if not path.lower().endswith(_SKIPPED))
    for path in track(paths, what="reading DICOM headers", unit="files"):
        try:
            if read_file_meta_info(root / path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                continue
            header = pydicom.dcmread(root / path, stop_before_pixels=True, specific_tags=[element, "Rows"])
            value = str(header.get(element) or "").strip()
        except (InvalidDicomError, OSError, ValueError, AttributeError, KeyError, NotImplementedError):
            continue
        if value and "Rows" in header:
            found[value].append(path)
    if not found:
        raise DataError(f"{root}: no DICOM image with {element} among {len(paths):,} files. Is --root their folder?")
    return found
