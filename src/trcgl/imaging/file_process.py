"""Read whole radiographs in a separate process: a file that crashes or hangs its decoder costs that row only.

Several such processes also decode in parallel beside a network, each on its own core.
"""

import dataclasses
import io
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from trcgl.core.errors import DataError, NotAccepted, TooLarge, UnreadableImage
from trcgl.imaging.isolated import IsolatedProcess, Lost, serve
from trcgl.imaging.limits import DAMAGED, Limits
from trcgl.imaging.radiograph import Fit, Placement, at_most, fit_square, kind_of, load_file, read_bytes

_READY = "ready"
_REFUSALS = {kind.__name__: kind for kind in (UnreadableImage, TooLarge, DataError)}
SECONDS = 180.0
"""Time limit for a file, in seconds; longer than that of gdcm's process inside, whose message is more precise."""

Shape = tuple[int, Fit]  # side of a square image in pixels, and how the radiograph is made square


@dataclass(frozen=True)
class ReadFile:
    """Result of reading a radiograph: its images in every requested shape, and facts about the file."""

    pictures: tuple[UInt8[np.ndarray, "_ _"], ...]  # a (size, size) image for each requested shape
    placements: tuple[Placement, ...]  # from pixels of the upright radiograph to pixels of each image
    original_size: tuple[int, int]  # (rows, columns) of the radiograph, upright and with square pixels
    kind: str  # `png`, `jpeg` or `dicom`
    study: str | None = None  # digest of the DICOM file's StudyInstanceUID; None without a UID, or if not requested
    preview: bytes | None = None  # PNG file of the whole radiograph, reduced in size; None if not requested
    identifiers: dict[str, str | None] | None = None  # of a DICOM file; None for another, or if not requested
    notes: tuple[str, ...] = ()  # what was ignored, guessed or corrected, codes of `notes.NOTES`


class FileProcess(IsolatedProcess):
    """Handle of the process.

    Args:
        ready: import the DICOM libraries when the process starts; else the first DICOM file waits for the import.
    """

    def __init__(self, seconds: float = SECONDS, *, ready: bool = False) -> None:
        super().__init__("trcgl.imaging.file_process", seconds, [_READY] if ready else [])

    def read(
        self,
        path: Path,
        shapes: Sequence[Shape],
        *,
        study: bool = False,
        whole: bool = False,
        identifiers: bool = False,
        accept: Collection[str] = (),
    ) -> ReadFile:
        """Read a file in each of the shapes.

        `accept`: reasons of `core.errors.REASONS` for which a file is not refused.

        Raises:
            UnreadableImage: the file cannot be read, or its decoder crashed or took too long.
            NotAccepted: it is readable but not accepted.
        """
        preview = Limits().pixels if whole else None
        try:
            return self._read(
                b"",
                shapes,
                path=str(path),
                study=study,
                preview=preview,
                identifiers=identifiers,
                accept=sorted(accept),
            )
        except Lost as error:
            raise UnreadableImage(f"{path}: its decoder {error}. Copy it again, or leave it out.") from error

    def read_content(
        self,
        content: bytes,
        name: str,
        shapes: Sequence[Shape],
        *,
        limits: Limits,
        preview: int | None = None,
        identifiers: bool = False,
        accept: Collection[str] = (),
    ) -> ReadFile:
        """Read a file in memory; nothing is written to disk.

        `name`: name of the file in messages, which quote nothing from its content. `preview`: longer side of the
        preview, at most; None for no preview. `accept`: as in `read`.

        Raises:
            Lost: its decoder crashed or took too long.
        """
        asked = {"limits": dataclasses.asdict(limits), "preview": preview, "identifiers": identifiers}
        return self._read(content, shapes, path=None, name=name, accept=sorted(accept), **asked)

    def _read(self, content: bytes, shapes: Sequence[Shape], **asked: Any) -> ReadFile:
        question = json.dumps({"shapes": list(shapes), **asked}).encode()
        try:
            answer = self.ask(b"\n".join([question, content]))
        except Lost:
            raise
        except ValueError as error:
            raise UnreadableImage(f"{asked['path'] or asked['name']}: {DAMAGED}") from error
        head, _, rest = answer.partition(b"\n")
        reply = json.loads(head)
        if reply.get("not accepted"):
            named = {"study": reply["study"], "identifiers": reply["identifiers"]}
            raise NotAccepted(reply["message"], reply["not accepted"], **named)
        if reason := reply.get("refused"):
            raise _REFUSALS[reason](reply["message"])
        parts = _split(rest, reply["lengths"])
        pictures = tuple(np.frombuffer(next(parts), np.uint8).reshape(size, size) for size, _ in shapes)
        return ReadFile(
            pictures,
            tuple(Placement(*placement) for placement in reply["placements"]),
            (reply["size"][0], reply["size"][1]),
            reply["kind"],
            reply["study"],
            next(parts, None),
            reply["identifiers"],
            tuple(reply["notes"]),
        )


def _split(content: bytes, lengths: Sequence[int]) -> Iterator[bytes]:
    start = 0
    for length in lengths:
        yield content[start : start + length]
        start += length


def _answer(question: bytes) -> bytes:
    head, _, content = question.partition(b"\n")
    asked = json.loads(head)
    try:
        reply, parts = _read_file(asked, content)
    except tuple(_REFUSALS.values()) as error:
        reply, parts = {"refused": type(error).__name__, "message": str(error)}, []
    return b"\n".join([json.dumps(reply | {"lengths": list(map(len, parts))}).encode(), b"".join(parts)])


def _read_file(asked: dict[str, Any], content: bytes) -> tuple[dict[str, Any], list[bytes]]:
    if asked["path"] is not None:
        limits, name = Limits(), asked["path"]
        content = load_file(Path(name))
    else:
        limits, name = Limits(**asked["limits"]), asked["name"]
    try:
        whole = read_bytes(content, name, limits=limits, accept=frozenset(asked["accept"]))
    except NotAccepted as error:
        return {"not accepted": error.reason, "message": str(error)} | _named(asked, content), []
    squares = [fit_square(whole.pixels, size, fit) for size, fit in asked["shapes"]]
    parts = [square.tobytes() for square, _ in squares]
    if asked.get("preview"):
        parts.append(_png(at_most(whole.pixels, asked["preview"])))
    placements = [placement for _, placement in squares]
    reply = {"kind": whole.kind, "size": whole.pixels.shape, "placements": placements, "notes": whole.notes}
    return reply | _named(asked, content), parts


def _named(asked: dict[str, Any], content: bytes) -> dict[str, Any]:
    """Study and identifiers of a DICOM file, where they were requested."""
    named: dict[str, Any] = {"study": None, "identifiers": None}
    if kind_of(content) != "dicom":
        return named
    if asked.get("study"):
        from trcgl.imaging.dicom import study_digest

        named["study"] = study_digest(content)
    if asked.get("identifiers"):
        from trcgl.imaging.identifiers import identifiers

        named["identifiers"] = identifiers(content)
    return named


def _png(pixels: UInt8[np.ndarray, "rows columns"]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=3)
    return stream.getvalue()


def _load() -> None:
    """Read an invalid DICOM file, in order to import the DICOM libraries."""
    with suppress(UnreadableImage):
        read_bytes(bytes(128) + b"DICM", "nothing")


if __name__ == "__main__":
    if _READY in sys.argv:
        _load()
    serve(_answer)
