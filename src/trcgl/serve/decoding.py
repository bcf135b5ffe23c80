"""Uploads are decoded by processes of their own; what they send back is pixels and a few numbers."""

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
    """Several decoders that take turns.

    Args:
        shapes: in which the network wants each radiograph.
        limits: the largest radiograph.
        seconds: what one file may take.
        workers: how many; 0 takes one per CPU.
    """

    def __init__(self, shapes: tuple[Shape, ...], limits: Limits, seconds: float, workers: int = 0) -> None:
        self._shapes, self._limits = shapes, limits
        self._pool = FilePool(seconds, workers, ready=True)

    def start(self) -> None:
        """Start all processes, so that the first upload does not wait for one.

        Raises:
            DataError: one cannot be started.
        """
        self._pool.start()

    async def read(self, content: bytes, metrics: Metrics, *, preview: bool) -> ReadFile:
        """One radiograph, decoded by the next process that is idle.

        Raises:
            Problem: it cannot be decoded, or not in time.
        """
        if content and kind_of(content) is None:
            raise Problem(415, "unsupported", "The file is no PNG, JPEG or DICOM. Send a radiograph in one of these.")
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
        """The process ids of the decoders that run."""
        return self._pool.running

    def close(self) -> None:
        """End all processes, whatever they do."""
        self._pool.close()


def _sentence(error: UnreadableImage) -> str:
    return str(error).replace(f"{_NAME}: ", f"{_NAME} cannot be read: ", 1)
