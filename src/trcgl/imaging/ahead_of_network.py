"""Decoding of radiographs in several processes while the network scores the previous batch."""

from collections.abc import Collection, Generator, Iterable, Sequence
from pathlib import Path

from trcgl.core.errors import NotAccepted, UnreadableImage
from trcgl.core.prefetch import map_ahead
from trcgl.imaging.file_pool import FilePool
from trcgl.imaging.file_process import SECONDS, ReadFile, Shape


def read_ahead(
    files: Iterable[tuple[str, Path]],
    shapes: Sequence[Shape],
    *,
    ahead: int,
    workers: int = 0,
    study: bool = False,
    whole: bool = False,
    identifiers: bool = False,
    seconds: float = SECONDS,
    accept: Collection[str] = (),
) -> Generator[tuple[str, ReadFile | NotAccepted | str], None, None]:
    """Yield every file in order, or why it is refused although it is readable, or why it cannot be read.

    If a decoder crashes or hangs, only its file is lost, and another process replaces it.

    `files`: image_id and file. `workers`: number of processes; 0 takes one per CPU. `whole`: return the preview, with
    all pixels of the file. `accept`: reasons of `core.errors.REASONS` for which a file is not refused.
    """
    pool = FilePool(seconds, workers)

    def read(file: tuple[str, Path]) -> tuple[str, ReadFile | NotAccepted | str]:
        name, path = file
        with pool.process() as process:
            try:
                return name, process.read(
                    path, shapes, study=study, whole=whole, identifiers=identifiers, accept=accept
                )
            except NotAccepted as error:
                why = str(error).removeprefix(f"{path}: ")
                return name, NotAccepted(why, error.reason, study=error.study, identifiers=error.identifiers)
            except UnreadableImage as error:
                return name, str(error).removeprefix(f"{path}: ")

    try:
        yield from map_ahead(pool.threads, read, files, ahead)
    finally:
        pool.close()
