"""Values of DICOM elements, read from their bytes.

Archives hold text where numbers belong, several values where the standard wants one, and empty elements. pydicom raises
errors on many of these when an element is accessed; here such a value is NaN or missing, and the reader decides.
"""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_TEXT = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "SH", "TM", "UI")
_WORDS = {"UL": "u4", "SL": "i4", "SS": "i2"}  # any other is US
_NUMERIC = re.compile(r"[-+0-9.,eE \\]{1,80}|(?i:nan|inf|auto)")
_CODE = re.compile(r"[A-Za-z0-9 _\-.\\]{1,64}")


def has(dataset: "Dataset", keyword: str) -> bool:
    """Whether an element is present with a value."""
    return _value(dataset, keyword)[0] not in (None, b"", "")


def texts(dataset: "Dataset", keyword: str) -> list[str]:
    """The values of an element of text, without padding; [] if it is missing or empty."""
    value, _, _ = _value(dataset, keyword)
    if isinstance(value, bytes):
        value = value.decode("latin-1").strip("\0 ").split("\\")
    elif value is None or isinstance(value, str) or not hasattr(value, "__iter__"):
        value = [] if value is None else [value]
    values = [str(item).strip("\0 \t\r\n") for item in value]
    return values if any(values) else []


def text(dataset: "Dataset", keyword: str) -> str:
    """The first value of an element of text, or an empty string."""
    return (texts(dataset, keyword) or [""])[0]


def numbers(dataset: "Dataset", keyword: str) -> list[float]:
    """The values of an element of decimal text (DS, IS); NaN for a value that is no finite number."""
    return [_number(value) for value in texts(dataset, keyword)]


def integers(dataset: "Dataset", keyword: str) -> list[int]:
    """The values of a binary element (US, SS, UL, SL), or of an element of text in its place; [] if it has none."""
    value, kind, order = _value(dataset, keyword)
    if not isinstance(value, bytes) or kind in _TEXT:
        found = numbers(dataset, keyword)
        return [int(number) for number in found] if all(map(np.isfinite, found)) else []
    word = np.dtype(f"{order}{_WORDS.get(kind, 'u2')}")
    return np.frombuffer(value[: len(value) // word.itemsize * word.itemsize], word).tolist()


def integer(dataset: "Dataset", keyword: str) -> int | None:
    """The first value of a binary element, or None."""
    return next(iter(integers(dataset, keyword)), None)


def content(dataset: "Dataset", keyword: str) -> tuple[bytes, str, str]:
    """The bytes of an element, its VR and its byte order (`<` or `>`)."""
    value, kind, order = _value(dataset, keyword)
    return (value if isinstance(value, bytes) else b""), kind, order


def items(dataset: "Dataset", keyword: str) -> "list[Dataset]":
    """The items of a sequence; [] if it is missing, empty or damaged."""
    try:
        return list(dataset[keyword].value or []) if keyword in dataset else []
    except Exception:  # pydicom raises errors of every kind on damaged sequences
        return []


def element(keyword: str) -> str:
    """Name and tag of an element for messages, for instance `Rows (0028,0010)`."""
    tag = _tag(keyword)
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def said(dataset: "Dataset", keyword: str) -> str:
    r"""An element and its value for messages, for instance `WindowWidth (0028,1051) is 0\0`.

    Call it for elements that describe the image, never for elements that may identify a patient.
    """
    if not has(dataset, keyword):
        return f"{element(keyword)} is {'empty' if keyword in dataset else 'missing'}"
    from pydicom.datadict import dictionary_VR

    binary = dictionary_VR(_tag(keyword)) in ("US", "SS", "UL", "SL", "US or SS")
    found = integers(dataset, keyword) if binary else texts(dataset, keyword)
    value = "\\".join(map(str, found))
    if dictionary_VR(_tag(keyword)) in ("CS", "UI"):
        return f"{element(keyword)} is {value if _CODE.fullmatch(value) else 'not printable'}"
    return f"{element(keyword)} is {value if _NUMERIC.fullmatch(value) else 'no number'}"


def _value(dataset: "Dataset", keyword: str) -> tuple[Any, str, str]:
    """Value, VR (empty in implicit VR) and byte order; the value is bytes unless pydicom has converted it already."""
    item = dataset.get_item(_tag(keyword))
    if item is None:
        return None, "", "<"
    little = getattr(item, "is_little_endian", True)
    return item.value, str(item.VR or ""), "<" if little else ">"


def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return np.nan
    return number if np.isfinite(number) else np.nan
