"""Radiographs are decoded by several processes while the network scores the batch before."""

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from trcgl.core.errors import UnreadableImage
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
    seconds: float = SECONDS,
) -> Generator[tuple[str, ReadFile | str], None, None]:
    """Every file in order, or the reason that it cannot be read.

    A decoder that crashes or hangs costs its file alone; another process takes its place.

    Args:
        files: image_id and file.
        shapes: in which each is wanted.
        ahead: files that are decoded beyond the one that the caller has.
        workers: processes; 0 takes one per CPU.
        study: whether the digest of the study is wanted.
        whole: whether the preview is, of all pixels of the file.
        seconds: what one file may take.

    Raises:
        DataError: the processes cannot be started.
    """
    pool = FilePool(seconds, workers)

    def read(file: tuple[str, Path]) -> tuple[str, ReadFile | str]:
        name, path = file
        with pool.process() as process:
            try:
                return name, process.read(path, shapes, study=study, whole=whole)
            except UnreadableImage as error:
                return name, str(error).removeprefix(f"{path}: ")

    try:
        yield from map_ahead(pool.threads, read, files, ahead)
    finally:
        pool.close()
