"""Decoding of uploads in separate processes, which return pixels and a few numbers."""

import asyncio
from concurrent.futures import Future

from trcgl.core.errors import DataError, TooLarge, UnreadableImage
from trcgl.imaging.file_pool import FilePool
from trcgl.imaging.file_process import ReadFile, Shape
from trcgl.imaging.isolated import Late, Lost
from trcgl.imaging.limits import Limits
from trcgl.imaging.radiograph import kind_of
from trcgl.serve.metrics import Metrics
from trcgl.serve.problem import Problem

PREVIEW_SIDE = 1024
"""Pixels of the longer side of the picture that goes with maps."""
_NAME = "The file"


class DecoderPool:
    """Several decoder processes.

    Args:
        shapes: Sizes and fits in which the network needs each radiograph.
        limits: The largest radiograph.
        seconds: Longest time for one file.
        workers: Number of processes; 0 starts one per CPU.
    """

    def __init__(self, shapes: tuple[Shape, ...], limits: Limits, seconds: float, workers: int = 0) -> None:
        self._shapes, self._limits = shapes, limits
        self._pool = FilePool(seconds, workers, ready=True)

    def start(self) -> None:
        """Start all processes, so that the first upload does not wait.

        Raises:
            DataError: A process cannot be started.
        """
        self._pool.start()

    async def read(self, content: bytes, metrics: Metrics, *, preview: bool) -> ReadFile:
        """Decode one radiograph in the next idle process.

        Raises:
            Problem: The file cannot be decoded, or not in time.
        """
        if content and kind_of(content) is None:
            raise Problem(
                415,
                "unsupported",
                "The file is not a PNG, JPEG or DICOM file. Send a radiograph in one of these formats.",
            )
        future: Future[ReadFile] = self._pool.threads.submit(self._read, content, PREVIEW_SIDE if preview else None)
        try:
            return await asyncio.wrap_future(future)
        except Late as error:
            metrics.restarts.inc()
            message = f"Decoding the file {error}: it is too large, or the machine is busy. Try again in a minute."
            raise Problem(504, "timeout", message) from error
        except Lost as error:
            metrics.restarts.inc()
            message = "The file crashed its decoder: it is damaged. Copy it again from the archive."
            raise Problem(422, "unreadable", message) from error
        except TooLarge as error:
            raise Problem(413, "too_large", _sentence(error)) from error
        except UnreadableImage as error:
            raise Problem(422, "unreadable", _sentence(error)) from error
        except DataError as error:
            raise Problem(503, "busy", "No decoder can be started. Try again later.") from error

    def _read(self, content: bytes, preview: int | None) -> ReadFile:
        with self._pool.process() as process:
            return process.read_content(content, _NAME, self._shapes, limits=self._limits, preview=preview)

    def processes(self) -> list[int]:
        """Process ids of the running decoders."""
        return self._pool.running

    def close(self) -> None:
        """Stop all processes."""
        self._pool.close()


def _sentence(error: UnreadableImage) -> str:
    return str(error).replace(f"{_NAME}: ", f"{_NAME} cannot be read: ", 1)
