"""The bounds that every file is checked against before its pixels are decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import ImageFile

from trcgl.core.errors import TooLarge, UnreadableImage

DAMAGED = (
    "damaged or cut off, or of a kind that cannot be decoded. Copy it again from the archive; `trcgl doctor` lists the "
    "decoders."
)
"""Message for a file that a library cannot decode. The library's own message stays in `__cause__`: it may quote the
file, which names a patient."""


@dataclass(frozen=True)
class Limits:
    """The largest file that is decoded."""

    bytes: int = 256 * 1024 * 1024  # size of the file
    pixels: int = 100_000_000  # rows times columns; 100 million covers every detector on the market several times


def check_pixels(rows: int, columns: int, name: str, limits: Limits) -> None:
    """Refuse an image without pixels or with too many."""
    if rows < 1 or columns < 1:
        raise UnreadableImage(f"{name}: announces {rows} x {columns} pixels. Copy it again from the archive.")
    if rows * columns > limits.pixels:
        raise TooLarge(f"{name}: announces {rows} x {columns} pixels, more than the limit of {limits.pixels}.")


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Refuse cut-off files even where other code made Pillow fill the missing part with gray."""
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient
