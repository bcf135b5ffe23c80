"""The header of a radiograph, as a structured report inherits it: readable text, and no value that breaks the standard.

Elements that may be empty (type 2 in PS3.3) are emptied where their value has no meaning, such as the date
00/00/0000. Messages name elements and never their values, which may identify a patient.
"""

import datetime
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trcgl.core.errors import DataError
from trcgl.imaging.radiograph import load_file

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_DATES, _TIMES = ("PatientBirthDate", "StudyDate"), ("StudyTime",)
MAY_BE_EMPTY = ("PatientID", "PatientName", "PatientSex", "AccessionNumber", "StudyID", *_DATES, *_TIMES)
"""Elements of type 2 that a report inherits."""
_OLD_DATE = re.compile(r"(\d{4})\.(\d\d)\.(\d\d)")  # of ACR-NEMA 300, named in the notes of PS3.5, Table 6.2-1
_OLD_TIME = re.compile(r"(\d\d):(\d\d):(\d\d(?:\.\d{1,6})?)")
_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_TEXT = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
_UTF_8, _LATIN_1 = "ISO_IR 192", "ISO_IR 100"


@dataclass(frozen=True)
class ReportHeader:
    """The header of a radiograph without its pixels, and what was changed in it."""

    header: "Dataset"
    notes: tuple[str, ...]
    """One per changed element, for instance `PatientBirthDate is no date and is left empty`."""


def read_header(path: Path, name: str) -> ReportHeader:
    """Read the header that a report of the radiograph `name` inherits.

    Raises:
        DataError: the header cannot be read, or lacks an element that a report needs; names the element.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(path, name)
    except DataError:
        raise
    except Exception:
        raise DataError(f"{name}: its DICOM header cannot be read. Copy it again from the archive.") from None


def _read(path: Path, name: str) -> ReportHeader:
    import pydicom

    header = pydicom.dcmread(io.BytesIO(load_file(path)), stop_before_pixels=True)
    notes = [*_declare_character_set(header), *_decode(header, name)]
    multiple = pydicom.multival.MultiValue
    several = [keyword for keyword in (*_NEEDED, "PatientID") if isinstance(header.get(keyword), multiple)]
    missing = [keyword for keyword in _NEEDED if not header.get(keyword)]
    if missing:
        raise DataError(f"{name}: no SR without {', '.join(missing)}. Export it from the archive again.")
    if several:
        raise DataError(f"{name}: no SR, as {', '.join(several)} must not hold a backslash. Export it again.")
    wrong = [keyword for keyword in _NEEDED if not _is_uid(str(header[keyword].value))]
    if wrong:
        raise DataError(f"{name}: no SR, as {', '.join(wrong)} is no DICOM UID. Export it from the archive again.")
    return ReportHeader(header, (*notes, *_correct(header)))


def _declare_character_set(header: "Dataset") -> list[str]:
    """Declare the character set of texts beyond ASCII, where the header names none or one that does not exist.

    UTF-8 is recognized by its bytes; other texts are read as Latin-1, the usual default of viewers.
    """
    from pydicom.charset import convert_encodings, python_encoding
    from pydicom.datadict import dictionary_VR
    from pydicom.dataelem import RawDataElement

    named = header.get("SpecificCharacterSet") or []
    named = [named] if isinstance(named, str) else list(named)
    known = [value for value in named if not value or value in python_encoding or _is_misspelled(value)]
    if named and known == named and convert_encodings(named):
        return []
    texts: list[tuple[int, bytes]] = []
    for tag in list(header.keys()):
        raw = header.get_item(tag)
        if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) and not raw.value.isascii():
            try:
                kind = raw.VR if raw.VR not in (None, "UN") else dictionary_VR(tag)
            except KeyError:  # a private element
                continue
            if kind in _TEXT:
                texts.append((tag, raw.value))
    if not texts:
        header.SpecificCharacterSet = _UTF_8
        return []
    try:
        for _, value in texts:
            value.decode("utf-8")
    except UnicodeDecodeError:
        header.SpecificCharacterSet = _LATIN_1
        wrong = "names no character set that exists" if named else "is missing"
        keywords = [_keyword(tag) for tag, _ in texts]
        return [f"SpecificCharacterSet {wrong}, so {', '.join(keywords)} is read as Latin-1"]
    header.SpecificCharacterSet = _UTF_8
    return []


def _is_misspelled(value: str) -> bool:
    """Whether a character set is one that exists, in a spelling that pydicom corrects."""
    return re.fullmatch(r"ISO[-_ ]?(2022[-_ ])?IR[-_ ]?\d+", value) is not None


def _decode(header: "Dataset", name: str) -> list[str]:
    """Decode all elements; one that cannot be decoded is emptied where it may be."""
    notes = []
    for tag in list(header.keys()):
        try:
            header[tag].value  # noqa: B018, which reads the element
        except Exception:
            keyword = _keyword(tag)
            if keyword in _NEEDED:
                raise DataError(f"{name}: no SR, as {keyword} cannot be read. Export it again.") from None
            del header[tag]
            if keyword in MAY_BE_EMPTY:
                notes.append(f"{keyword} cannot be read and is left empty")
    header.decode()
    return notes


def _correct(header: "Dataset") -> list[str]:
    """Empty the values that break the standard, in elements that may be empty; add those that are missing."""
    notes = []
    for keyword in MAY_BE_EMPTY:
        value = header.get(keyword)
        text = "" if value is None else str(value).strip()
        if keyword in _DATES:
            text, what = _OLD_DATE.sub(r"\1\2\3", text), "date"
            good = _is_date(text)
        elif keyword in _TIMES:
            text, what = _OLD_TIME.sub(r"\1\2\3", text), "time"
            good = _TIME.fullmatch(text) is not None
        elif keyword == "PatientSex":
            text, what, good = text.upper(), "sex that DICOM defines (M, F, O)", text.upper() in ("M", "F", "O")
        else:
            if value is None:
                setattr(header, keyword, None)
            continue
        if text and not good:
            notes.append(f"{keyword} is no {what} and is left empty")
        setattr(header, keyword, text if good else None)
    return notes


def _is_uid(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)*", text) is not None and len(text) <= 64


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        datetime.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _keyword(tag: object) -> str:
    """Keyword of a tag, or the tag itself."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or str(tag)  # type: ignore[arg-type]
