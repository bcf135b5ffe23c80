"""From stored values to gray values: modality LUT, VOI LUT or window, polarity, padding (PS3.3 C.7.5.1.1.2, C.11)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from trcgl.imaging import dicom_elements as elements
from trcgl.imaging.gray import GrayTable

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Values = Float[np.ndarray, "*shape"]
Step = Callable[[Values], Values]


@dataclass(frozen=True)
class Layout:
    """Where the stored value lies in a word (PS3.5 8.1.1).

    Args:
        bits: BitsStored.
        shift: number of bits below the stored value.
        signed: whether the stored value is in two's complement.
    """

    bits: int
    shift: int
    signed: bool

    @property
    def extremes(self) -> tuple[int, int]:
        """The smallest and the largest stored value."""
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)

    def stored(self, words: Num[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
        """The stored values of unsigned words; other bits of a word, such as overlays, are dropped."""
        values = words.astype(np.int64) >> self.shift & (1 << self.bits) - 1
        return values - (values >> self.bits - 1 << self.bits) if self.signed else values


@dataclass(frozen=True)
class Rescale:
    """Slope and intercept (PS3.3 C.11.1.1.2)."""

    slope: float
    intercept: float

    def __call__(self, values: Values) -> Values:
        """The rescaled values."""
        return values * self.slope + self.intercept


@dataclass(frozen=True)
class Lookup:
    """A lookup table (PS3.3 C.11.1.1.1, C.11.2.1.1): values beyond its ends take the first or last entry.

    Args:
        first: the value that the first entry belongs to.
    """

    first: int
    entries: Float[np.ndarray, " entries"]

    def __call__(self, values: Values) -> Values:
        """The entries of the values."""
        places = np.clip(np.floor(values + 0.5) - self.first, 0, len(self.entries) - 1)
        return self.entries[places.astype(np.int64)]


@dataclass(frozen=True)
class Window:
    """A window (PS3.3 C.11.2.1.2, C.11.2.1.3).

    Args:
        function: LINEAR, LINEAR_EXACT or SIGMOID.
        black: gray value below the window.
        white: gray value above the window.
    """

    center: float
    width: float
    function: str
    black: float
    white: float

    def __call__(self, values: Values) -> Values:
        """The gray values of the values."""
        span = self.white - self.black
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):
                return span / (1 + np.exp(-4 * (values - self.center) / self.width)) + self.black
        linear = self.function == "LINEAR"
        center, width = (self.center - 0.5, self.width - 1) if linear else (self.center, self.width)
        above = values > center + width / 2
        if width == 0:
            return np.where(above, self.white, self.black)
        between = ((values - center) / width + 0.5) * span + self.black
        return np.where(values <= center - width / 2, self.black, np.where(above, self.white, between))


@dataclass(frozen=True)
class Transform:
    """The path from the words of a file to gray values.

    Args:
        steps: modality LUT or rescale, then VOI LUT or window, as far as the file has them.
        padding: the smallest and largest stored value of padding, or None.
        inverted: whether a small gray value is bright (MONOCHROME1).
    """

    layout: Layout
    steps: tuple[Step, ...]
    padding: tuple[int, int] | None
    inverted: bool

    def table(self, bits: int) -> GrayTable:
        """The gray value of every word of so many bits."""
        gray, padding = self.grays(np.arange(1 << bits))
        return GrayTable(gray, padding, self.inverted)

    def grays(self, words: Num[np.ndarray, "*shape"]) -> tuple[Values, Bool[np.ndarray, "*shape"] | None]:
        """The gray values of unsigned words, float64, and which of them are padding."""
        stored = self.layout.stored(words)
        values = stored.astype(np.float64)
        for step in self.steps:
            values = step(values)
        if self.padding is None:
            return values, None
        return values, (stored >= self.padding[0]) & (stored <= self.padding[1])

    def is_flat(self, low: float, high: float) -> bool:
        """Whether a window leaves so little contrast that a display of 16 bits shows one gray."""
        window = self.steps[-1] if self.steps else None
        return isinstance(window, Window) and abs(high - low) * 65535 < window.white - window.black


def read_transform(dataset: "Dataset", layout: Layout, notes: set[str]) -> Transform:
    """The transform of a grayscale image; `notes` receives the code of each element that is invalid and ignored.

    A VOI LUT is preferred to a window; the first valid one of several counts.
    """
    photometric = elements.text(dataset, "PhotometricInterpretation").upper()
    shape = elements.text(dataset, "PresentationLUTShape").upper()
    # PS3.3 C.8.11.3.1.2 wants INVERSE with MONOCHROME1 and IDENTITY with MONOCHROME2. Detectors write wrong shapes.
    if shape and (shape == "INVERSE") != (photometric == "MONOCHROME1"):
        notes.add("presentation-ignored")
    modality, low, high = _modality(dataset, layout, notes)
    voi = _voi_lut(dataset, low, notes) or _window(dataset, low, high, notes)
    steps = tuple(step for step in (modality, voi) if step is not None)
    return Transform(layout, steps, _padding(dataset, layout, notes), photometric == "MONOCHROME1")


def _modality(dataset: "Dataset", layout: Layout, notes: set[str]) -> tuple[Step | None, float, float]:
    """The modality step and the range of its results."""
    low, high = map(float, layout.extremes)
    for item in elements.items(dataset, "ModalityLUTSequence"):
        if (lookup := _lookup(item, low)) is not None:
            bits = (elements.integers(item, "LUTDescriptor"))[2]
            return lookup, 0.0, float((1 << bits) - 1)
        notes.add("modality-lut-ignored")
    slope, intercept = (elements.numbers(dataset, f"Rescale{part}") for part in ("Slope", "Intercept"))
    if slope and intercept and slope[0] and not np.isnan(slope[0]) and not np.isnan(intercept[0]):
        rescale = Rescale(slope[0], intercept[0])
        ends = [end * slope[0] + intercept[0] for end in (low, high)]
        return rescale, min(ends), max(ends)
    if "RescaleSlope" in dataset or "RescaleIntercept" in dataset:
        notes.add("rescale-ignored")
    return None, low, high


def _voi_lut(dataset: "Dataset", low: float, notes: set[str]) -> Lookup | None:
    for item in elements.items(dataset, "VOILUTSequence"):
        if (lookup := _lookup(item, low)) is not None:
            return lookup
        notes.add("voi-lut-ignored")
    return None


def _lookup(item: "Dataset", low: float) -> Lookup | None:
    """The table of an item of a sequence, or None if it is invalid; `low` is the smallest value that is looked up."""
    descriptor = elements.integers(item, "LUTDescriptor")
    data, kind, order = elements.content(item, "LUTData")
    if len(descriptor) != 3 or not 1 <= descriptor[2] <= 16:
        return None
    count, first, bits = descriptor[0] % 65536 or 65536, descriptor[1], descriptor[2]
    # Explicit VR US or SS must fit the values looked up, but tables from before and after the modality step are mixed
    # up in archives, and implicit VR does not tell: a first value in the upper half is negative if the values may be.
    if first >= 32768 and low < 0:
        first -= 65536
    if len(data) >= 2 * count:
        entries = np.frombuffer(data, f"{order}u2", count)
    elif bits <= 8 and len(data) >= count:  # two entries in each word
        packed = np.frombuffer(data, np.uint8)
        swapped = order == ">" and kind != "OB" and not len(packed) % 2
        entries = (packed.reshape(-1, 2)[:, ::-1].reshape(-1) if swapped else packed)[:count]
    else:
        return None
    return Lookup(first, entries.astype(np.float64))


def _window(dataset: "Dataset", low: float, high: float, notes: set[str]) -> Window | None:
    centers, widths = (elements.numbers(dataset, f"Window{part}") for part in ("Center", "Width"))
    if not centers and not widths:
        return None
    function = elements.text(dataset, "VOILUTFunction").upper()
    if "VOILUTFunction" in dataset and function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        notes.add("voi-function-ignored")
    function = function if function in ("LINEAR_EXACT", "SIGMOID") else "LINEAR"
    for center, width in zip(centers, widths, strict=False):
        if not np.isnan(center) and (width >= 1 if function == "LINEAR" else width > 0):
            return Window(center, width, function, low, high)
        notes.add("window-ignored")
    notes.add("window-ignored")
    return None


def _padding(dataset: "Dataset", layout: Layout, notes: set[str]) -> tuple[int, int] | None:
    values = elements.integers(dataset, "PixelPaddingValue")
    limits = elements.integers(dataset, "PixelPaddingRangeLimit")
    if len(values) != 1 or ("PixelPaddingRangeLimit" in dataset and len(limits) != 1):
        if "PixelPaddingValue" in dataset:
            notes.add("padding-ignored")
        return None
    # Written as US in signed images and as SS in unsigned ones: 63536 is -2000.
    half = 32768 if layout.signed else 0
    ends = [(value + half) % 65536 - half if layout.bits <= 16 else value for value in (*values, *limits)]
    return min(ends), max(ends)
