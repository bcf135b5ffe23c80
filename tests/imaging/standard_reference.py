"""Random DICOM headers, and their picture by the formulas of PS3.3, written without the reader.

Values are computed pixel by pixel in double precision; nothing here is imported from the package.
"""

import io
import math
from dataclasses import dataclass, field

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

PLAIN = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)


@dataclass
class Case:
    """A header in the terms of the standard, and the words of the pixels."""

    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    syntax: uid.UID
    words: np.ndarray  # (rows, columns), unsigned
    modality: dict = field(default_factory=dict)
    voi: dict = field(default_factory=dict)
    padding: tuple[int, int] | None = None


def random_case(rng: np.random.Generator) -> Case:
    """Any combination that a file may have; about one attribute in ten is invalid and must be ignored."""
    allocated = int(rng.choice([8, 16, 16, 16, 32]))
    stored = int(rng.integers(2 if allocated < 32 else 17, allocated + 1))
    if allocated == 8 and rng.random() < 0.5:
        stored = 8
    high = stored - 1 if rng.random() < 0.7 else int(rng.integers(stored - 1, allocated))
    signed = bool(rng.random() < 0.4)
    shape = (int(rng.integers(2, 14)), int(rng.integers(2, 14)))
    words = rng.integers(0, 1 << allocated, shape, dtype=np.uint64)
    if rng.random() < 0.5:  # values close together, as in a real picture, and clean unused bits
        low = int(rng.integers(0, 1 << stored))
        near = (low + rng.integers(0, max(2, (1 << stored) // 16), shape, dtype=np.uint64)) % (1 << stored)
        words = near << np.uint64(high + 1 - stored)
    case = Case(
        allocated,
        stored,
        high,
        signed,
        str(rng.choice(["MONOCHROME1", "MONOCHROME2"])),
        PLAIN[rng.integers(len(PLAIN))] if rng.random() < 0.8 else uid.RLELossless,
        words.astype(f"u{allocated // 8}"),
    )
    low, high_value = case_range(case)
    _add_modality(case, rng, low, high_value)
    _add_voi(case, rng)
    if rng.random() < 0.3 and stored <= 16:
        value = stored_value(case, int(rng.choice(case.words.ravel())))
        other = stored_value(case, int(rng.choice(case.words.ravel()))) if rng.random() < 0.3 else value
        case.padding = (value, other)
    return case


def case_range(case: Case) -> tuple[int, int]:
    """The smallest and the largest stored value."""
    half = 1 << (case.stored - 1)
    return (-half, half - 1) if case.signed else (0, 2 * half - 1)


def _table(rng, low: int, high: int) -> dict:
    """A lookup table whose first value lies in the range of the values looked up."""
    count = int(rng.choice([1, 7, 256, 300, 4096, 65536], p=[0.1, 0.2, 0.25, 0.2, 0.2, 0.05]))
    first = int(rng.integers(max(low, -32768), min(high, 32767 if low < 0 else 65535) + 1))
    bits = int(rng.integers(8, 17))
    entries = rng.integers(0, 1 << bits, count)
    if rng.random() < 0.7:
        entries = np.sort(entries)
    forms = ["OW"] + ["US"] * (count < 30_000) + ["packed"] * (bits == 8 and count > 1)
    form = rng.choice(forms)
    return {"first": first, "bits": bits, "entries": entries.tolist(), "form": str(form)}


def _add_modality(case: Case, rng, low: int, high: int) -> None:
    kind = rng.choice(["none", "rescale", "table", "invalid"], p=[0.35, 0.4, 0.15, 0.1])
    if kind == "rescale":
        case.modality = {
            "slope": str(rng.choice(["1", "-1", "0.5", "2.37", "-10", "0.000244", "-0.03"])),
            "intercept": str(rng.choice(["0", "-1024", "4095", "0.5", "-2048.25"])),
        }
    elif kind == "table" and case.allocated < 32:
        case.modality = {"table": _table(rng, low, high)}
    elif kind == "invalid":
        case.modality = {"slope": str(rng.choice(["", "0", "1"])), "intercept": ""}


def _add_voi(case: Case, rng) -> None:
    values = [modality_value(case, value) for value in case_range(case)]
    low, high = math.floor(min(values)), math.ceil(max(values))
    kind = rng.choice(["none", "window", "table", "invalid"], p=[0.3, 0.45, 0.15, 0.1])
    if kind == "window":
        function = str(rng.choice(["LINEAR", "LINEAR_EXACT", "SIGMOID", "", "UNKNOWN", "none"]))
        linear = function not in ("LINEAR_EXACT", "SIGMOID")
        narrowest = 1.0 if linear else 0.01
        case.voi = {
            "center": f"{rng.uniform(low, high):.4f}"[:16],
            "width": f"{max(narrowest, rng.uniform(0, 1.2) * (high - low)):.4f}"[:16],
            "function": function,
        }
    elif kind == "table" and low > -32768 and high < 65536 and not (low < 0 and high > 32767):
        case.voi = {"table": _table(rng, low, high)}
    elif kind == "invalid":
        case.voi = {"center": "100", "width": str(rng.choice(["0", "-5", ""])), "function": "LINEAR"}


def stored_value(case: Case, word: int) -> int:
    """PS3.5 8.1.1: the bits from HighBit - BitsStored + 1 to HighBit, in two's complement if signed."""
    value = (word >> (case.high + 1 - case.stored)) % (1 << case.stored)
    return value - (1 << case.stored) if case.signed and value >= 1 << (case.stored - 1) else value


def looked_up(table: dict, value: float) -> float:
    """PS3.3 C.11.2.1.1: values below the first value take the first entry, values above the last the last one."""
    place = math.floor(value + 0.5) - table["first"]
    return float(table["entries"][min(max(place, 0), len(table["entries"]) - 1)])


def modality_value(case: Case, value: float) -> float:
    """PS3.3 C.11.1.1: the table, or m * value + b; an invalid pair is ignored."""
    if "table" in case.modality:
        return looked_up(case.modality["table"], value)
    slope, intercept = case.modality.get("slope"), case.modality.get("intercept")
    if not slope or not intercept or float(slope) == 0:
        return float(value)
    return float(slope) * value + float(intercept)


def voi_value(case: Case, x: float) -> float:
    """PS3.3 C.11.2.1: the table, or the window with an output of 0 to 1; an invalid window is ignored."""
    if "table" in case.voi:
        return looked_up(case.voi["table"], x)
    if not case.voi.get("width"):
        return x
    c, w, function = float(case.voi["center"]), float(case.voi["width"]), case.voi["function"]
    if function == "SIGMOID":
        return 0.0 if w <= 0 else 1 / (1 + math.exp(min(-4 * (x - c) / w, 700)))
    if function == "LINEAR_EXACT":
        return 0.0 if x <= c - w / 2 else 1.0 if x > c + w / 2 else (x - c) / w + 0.5
    if w < 1:
        return x
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    return 1.0 if x > c - 0.5 + (w - 1) / 2 else (x - (c - 0.5)) / (w - 1) + 0.5


def picture(case: Case) -> np.ndarray | None:
    """The gray values of 0 to 255 before rounding, by the pixel rule of the documentation.

    None if the window leaves less contrast than a step of a display of 16 bits: a blank picture.
    """
    stored = np.array([[stored_value(case, int(word)) for word in row] for row in case.words], object)
    gray = np.array([[voi_value(case, modality_value(case, value)) for value in row] for row in stored], float)
    hidden = np.zeros(gray.shape, bool)
    if case.padding is not None:
        hidden = np.array([[min(case.padding) <= value <= max(case.padding) for value in row] for row in stored])
    shown = gray[~hidden] if not hidden.all() else gray
    inverted = case.photometric == "MONOCHROME1"
    valid_rescale = case.modality.get("intercept") and float(case.modality["slope"] or 0) != 0
    valid_window = case.voi.get("width") and float(case.voi["width"]) > 0
    transformed = "table" in case.modality or "table" in case.voi or valid_rescale or valid_window
    if (case.allocated, case.stored, case.signed) == (8, 8, False) and not transformed:
        result = 255 - gray if inverted else gray
    else:
        low, high = np.percentile(shown, (0.5, 99.5))
        if high <= low:
            low, high = shown.min(), shown.max()
        if "table" not in case.voi and valid_window and (high - low) * 65535 < 1:
            return None
        result = np.zeros(gray.shape)
        if high > low:
            result = (high - gray if inverted else gray - low) * (255 / (high - low))
    return np.where(hidden, 0, np.clip(result, 0, 255))


def dicom_of(case: Case) -> bytes:
    """The case as a file."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = case.syntax
    dataset.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, "1.2.3"
    dataset.Rows, dataset.Columns = case.words.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, case.photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = case.allocated, case.stored, case.high
    dataset.PixelRepresentation = int(case.signed)
    order = ">" if case.syntax == uid.ExplicitVRBigEndian else "<"
    if case.modality.get("slope") is not None:
        dataset.RescaleSlope = case.modality["slope"] or None
        dataset.RescaleIntercept = case.modality["intercept"] or None
    if "table" in case.modality:
        dataset.ModalityLUTSequence = [_item(case.modality["table"], order)]
    if "table" in case.voi:
        dataset.VOILUTSequence = [_item(case.voi["table"], order)]
    elif case.voi:
        dataset.WindowCenter, dataset.WindowWidth = case.voi["center"], case.voi["width"] or None
        if case.voi["function"] != "none":
            dataset.VOILUTFunction = case.voi["function"]
    if case.padding is not None:
        value, limit = (number % 65536 for number in case.padding)
        dataset.add_new("PixelPaddingValue", "US", value)
        if limit != value:
            dataset.add_new("PixelPaddingRangeLimit", "US", limit)
    raw = case.words.astype(case.words.dtype.newbyteorder(order)).tobytes()
    if case.syntax == uid.RLELossless:
        dataset.PixelData = encapsulate([_run_lengths(case.words)])
        dataset["PixelData"].is_undefined_length = True
    else:
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB" if case.allocated == 8 or case.syntax == uid.RLELossless else "OW"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _item(table: dict, order: str) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table["entries"]) % 65536, table["first"] % 65536, table["bits"]])
    entries = np.array(table["entries"])
    if table["form"] == "US":
        item.add_new("LUTData", "US", entries.tolist())
    elif table["form"] == "OW":
        item.add_new("LUTData", "OW", entries.astype(f"{order}u2").tobytes())
    else:
        data = entries.astype(np.uint8).tobytes() + b"\0" * (len(entries) % 2)
        if order == ">":  # the lower byte of a word is its second one
            data = np.frombuffer(data, "u1").reshape(-1, 2)[:, ::-1].tobytes()
        item.add_new("LUTData", "OW", data)
    return item


def _run_lengths(words: np.ndarray) -> bytes:
    """A frame of literal runs (PS3.5 Annex G), a segment per byte of a word, the upper byte first."""
    segments = []
    for plane in words.astype(words.dtype.newbyteorder(">")).reshape(-1, 1).view("u1").T:
        data = plane.tobytes()
        runs = b"".join(
            bytes([len(data[start : start + 128]) - 1]) + data[start : start + 128]
            for start in range(0, len(data), 128)
        )
        segments.append(runs + b"\0" * (len(runs) % 2))
    starts = np.cumsum([64, *map(len, segments[:-1])]).astype("<u4")
    head = np.zeros(16, "<u4")
    head[0], head[1 : 1 + len(segments)] = len(segments), starts
    return head.tobytes() + b"".join(segments)
