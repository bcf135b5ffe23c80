"""The pixel rule: from the gray values of a file to pixels of 0 to 255.

Pixel rule: 8-bit files keep their values. Deeper files are stretched from the 0.5th to the 99.5th percentile of their
own pixels, because archives differ in how many of the bits they use; the range is recorded.

A file of at most 16 bits has at most 65,536 different words. A `GrayTable` holds the gray value of each, so that the
pixels themselves are touched twice: they are counted, and they are looked up.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num, UInt, UInt8

PERCENTILES = (0.5, 99.5)

PIXEL_RULE = (
    "8-bit files as they are; deeper files, and DICOM with a rescale or a window, stretched from the 0.5th to the "
    "99.5th percentile of their own pixels; DICOM after modality LUT and VOI LUT or window, MONOCHROME1 inverted"
)

_CHUNK = 1 << 16  # pixels that are counted and looked up at a time, so that NumPy's 64-bit indices stay in the cache


class GrayImage(NamedTuple):
    """The picture of a file as it is stored: not yet turned, its pixels not yet made square."""

    pixels: UInt8[np.ndarray, "height width"]
    pixel_range: tuple[float, float]  # the gray values of the file that became 0 and 255
    turn: int = 1  # how to turn it upright, see `orientation`
    aspect: float = 1.0  # height of a pixel divided by its width
    notes: tuple[str, ...] = ()  # codes of `notes.NOTES`


@dataclass(frozen=True)
class GrayTable:
    """The gray value of every word that a pixel may have.

    Args:
        values: gray value of the word that is the index.
        padding: true for a word that marks padding; it takes no part in the range and becomes 0. None: no padding.
        inverted: whether a small gray value is bright.
    """

    values: Float[np.ndarray, " words"]
    padding: Bool[np.ndarray, " words"] | None = None
    inverted: bool = False


def look_up(
    words: UInt[np.ndarray, "height width"], table: GrayTable
) -> tuple[UInt8[np.ndarray, "height width"], tuple[float, float]]:
    """Pixels by the pixel rule, and the gray values that became 0 and 255."""
    counts = _counted(words, len(table.values))
    if table.padding is not None and (shown := np.where(table.padding, 0, counts)).any():
        counts = shown
    low, high = _range_of_counts(table.values, counts)
    black, white = (high, low) if table.inverted else (low, high)
    tones = _stretched(table.values, black, white)
    if table.padding is not None:
        tones[table.padding] = 0
    return _taken(tones, words), (black, white)


def to_uint8(
    stored: Num[np.ndarray, "height width"],
    padding: Bool[np.ndarray, "height width"] | None = None,
    *,
    inverted: bool = False,
) -> tuple[UInt8[np.ndarray, "height width"], tuple[float, float]]:
    """Gray values as 0-255 by the pixel rule, and the gray values that became 0 and 255.

    Args:
        stored: gray values of the file.
        padding: true where a pixel is padding; it is ignored in the range and becomes 0.
        inverted: whether a small gray value is bright.
    """
    if stored.dtype == np.uint16 and padding is None:
        return look_up(stored, GrayTable(np.arange(65536.0), None, inverted))
    if stored.dtype == np.uint8:
        low, high = 0.0, 255.0
        pixels = 255 - stored if inverted else stored
    else:
        seen = stored if padding is None or padding.all() else stored[~padding]
        low, high = map(float, np.percentile(seen, PERCENTILES))
        if high <= low:
            low, high = float(seen.min()), float(seen.max())
        pixels = _stretched(stored, *((high, low) if inverted else (low, high)))
    if padding is not None:
        pixels = np.where(padding, np.uint8(0), pixels)
    return pixels, (high, low) if inverted else (low, high)


def _counted(words: UInt[np.ndarray, "height width"], length: int) -> Int[np.ndarray, " words"]:
    counts = np.zeros(length, np.int64)
    flat = words.reshape(-1)
    for start in range(0, flat.size, 4 * _CHUNK):
        part = np.bincount(flat[start : start + 4 * _CHUNK])
        counts[: len(part)] += part
    return counts


def _taken(tones: UInt8[np.ndarray, " words"], words: UInt[np.ndarray, "height width"]) -> UInt8[np.ndarray, "_ _"]:
    pixels = np.empty(words.shape, np.uint8)
    source, target = words.reshape(-1), pixels.reshape(-1)
    for start in range(0, source.size, _CHUNK):
        # Every word has an entry, so `clip` changes nothing; it spares a copy.
        tones.take(source[start : start + _CHUNK], out=target[start : start + _CHUNK], mode="clip")
    return pixels


def _range_of_counts(values: Float[np.ndarray, " words"], counts: Int[np.ndarray, " words"]) -> tuple[float, float]:
    """The percentiles of the pixel rule from a histogram, or the extremes where the percentiles are equal."""
    present = np.flatnonzero(counts)
    order = present[np.argsort(values[present], kind="stable")]
    grays, rank = values[order], np.cumsum(counts[order])
    place = np.multiply(PERCENTILES, (rank[-1] - 1) / 100)
    below, above = (grays[np.searchsorted(rank, rounded(place), side="right")] for rounded in (np.floor, np.ceil))
    low, high = map(float, below + (above - below) * (place - np.floor(place)))
    return (low, high) if high > low else (float(grays[0]), float(grays[-1]))


def _stretched(values: Num[np.ndarray, "*shape"], black: float, white: float) -> UInt8[np.ndarray, "*shape"]:
    scale = 255.0 / (white - black) if white != black else 0.0
    # Subtracted in double precision: a slope may make steps of a ten-thousandth of the values.
    above_black = np.subtract(values, black, dtype=np.float64).astype(np.float32)
    return np.clip(above_black * scale + 0.5, 0, 255).astype(np.uint8)
