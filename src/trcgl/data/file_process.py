"""Reading whole radiographs in a process of its own: a file that crashes or hangs its decoder costs one row.

Also what keeps several decoders busy beside a network, as each process decodes on a core of its own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from trcgl.core.errors import UnreadableImage
from trcgl.data.isolated import IsolatedProcess, Lost, serve
from trcgl.data.radiograph import Fit, fit_square, load_file, read_bytes

SECONDS = 180.0
"""What one file may take; more than gdcm's process inside may, whose own message says more."""

Shape = tuple[int, Fit]
"""Side of a square picture in pixels, and how the radiograph is made square."""


@dataclass(frozen=True)
class ReadFile:
    """One radiograph, read once.

    Args:
        pictures: one (size, size) picture for each shape that was asked for.
        study: digest of the DICOM file's StudyInstanceUID; None without one, or where it was not asked for.
    """

    pictures: tuple[UInt8[np.ndarray, "_ _"], ...]
    study: str | None


class FileProcess(IsolatedProcess):
    """The process, seen from outside.

    Args:
        seconds: what one file may take.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__("trcgl.data.file_process", seconds)

    def read(self, path: Path, shapes: Sequence[Shape], *, study: bool = False) -> ReadFile:
        """Read one file in each of the shapes.

        Raises:
            UnreadableImage: the file cannot be read, or its decoder crashed or took too long.
            DataError: the process cannot be started.
        """
        question = {"path": str(path), "shapes": list(shapes), "study": study}
        try:
            answer = self.ask(json.dumps(question).encode())
        except Lost as error:
            raise UnreadableImage(f"{path}: its decoder {error}. Copy it again, or leave it out.") from error
        except ValueError as error:
            raise UnreadableImage(str(error)) from error
        head, _, pixels = answer.partition(b"\n")
        pictures, start = [], 0
        for size, _ in shapes:
            flat = np.frombuffer(pixels, np.uint8, count=size * size, offset=start)
            pictures.append(flat.reshape(size, size))
            start += size * size
        return ReadFile(tuple(pictures), json.loads(head)["study"])


def _read(question: bytes) -> bytes:
    asked = json.loads(question)
    content = load_file(Path(asked["path"]))
    whole = read_bytes(content, asked["path"])
    study = None
    if asked["study"] and whole.kind == "dicom":
        from trcgl.data.dicom import study_digest

        study = study_digest(content)
    squares = [fit_square(whole.pixels, size, fit)[0] for size, fit in asked["shapes"]]
    return b"".join([json.dumps({"study": study}).encode(), b"\n", *(one.tobytes() for one in squares)])


if __name__ == "__main__":
    serve(_read)
