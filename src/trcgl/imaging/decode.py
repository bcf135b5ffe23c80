"""Decode many radiographs in several processes into parts on disk, so that an interruption loses little.

A part has consecutive rows: an array of images and a record per row. The process that made it writes it
atomically; existing parts are not made again.
"""

import dataclasses
import functools
import hashlib
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from trcgl.core import machine, storage
from trcgl.core.cluster import connect, map_on
from trcgl.core.errors import DataError, NotAccepted, UnreadableImage
from trcgl.core.progress import track
from trcgl.imaging.orientation import AS_STORED
from trcgl.imaging.radiograph import fit_square, load_file, read_bytes

ROWS_PER_PART = 128  # at most
_FEWEST_ROWS, _MOST_PARTS = 8, 64  # of a small table, so that its parts occupy all processes until the end


@dataclass(frozen=True)
class Decoder:
    """Everything that a worker process needs to make a part.

    Args:
        load: renders or fetches the image of row i, for archives without files.
        accept: reasons of `core.errors.REASONS` for which a file is not refused.
    """

    folder: Path
    root: Path
    paths: tuple[str | None, ...]  # path of every row below the root; None for a row without a file
    load: Callable[[int], UInt8[np.ndarray, "height width"]] | None
    size: int
    fit: Literal["letterbox", "squash"]
    accept: frozenset[str] = frozenset()

    @property
    def rows_per_part(self) -> int:
        """Rows of every part but the last; it depends on the number of rows alone, so that any process can resume."""
        return min(ROWS_PER_PART, max(_FEWEST_ROWS, -(-len(self.paths) // _MOST_PARTS)))

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-len(self.paths) // self.rows_per_part)

    def rows(self, part: int) -> range:
        """The rows of a part."""
        return range(part * self.rows_per_part, min((part + 1) * self.rows_per_part, len(self.paths)))

    def path(self, part: int) -> Path:
        """The file of a part."""
        rows = self.rows(part)
        return self.folder / f"part-{rows.start:08d}-{rows.stop:08d}.npz"

    def alone(self, part: int) -> "Decoder":
        """A decoder for this part alone, as its part 0; small enough to be sent to another machine."""
        rows = self.rows(part)
        load = functools.partial(_load_after, self.load, rows.start) if self.load else None
        root = Path(os.path.abspath(self.root))
        return dataclasses.replace(self, root=root, paths=self.paths[rows.start : rows.stop], load=load)

    def make(self, part: int) -> None:
        """Decode the rows of a part and write it."""
        self.write(part, self.content(part))

    def write(self, part: int, content: bytes) -> None:
        """Write the content of a part."""
        with storage.atomic(self.path(part)) as aside:
            aside.write_bytes(content)

    def content(self, part: int) -> bytes:
        """Decode the rows of a part into the content of its file."""
        pictures, records = [], []
        for row in self.rows(part):
            try:
                picture, record = self._loaded(row) if self.load else self._read(row)
            except UnreadableImage as error:
                reason = str(error).replace(f"{self.root}{os.sep}", "")
                refused = error.reason if isinstance(error, NotAccepted) else None
                records.append({"reason": reason, "not accepted": refused})
            else:
                pictures.append(picture)
                records.append(record)
        stack = np.stack(pictures) if pictures else np.empty((0, self.size, self.size), np.uint8)
        whole = io.BytesIO()
        np.savez(whole, pictures=stack, records=np.frombuffer(json.dumps(records).encode(), np.uint8))
        return whole.getvalue()

    def records(self, part: int) -> list[dict[str, Any]]:
        """A record per row of a part.

        A row without an image has its `reason` and, if the file is readable, the reason `not accepted` of
        `core.errors.REASONS`. A row with an image has digest, size, placement, turn, range, kind and notes.
        """
        with np.load(self.path(part), allow_pickle=False) as stored:
            return json.loads(stored["records"].tobytes())

    def pictures(self, part: int) -> UInt8[np.ndarray, "rows size size"]:
        """The readable images of a part, in order."""
        with np.load(self.path(part), allow_pickle=False) as stored:
            return stored["pictures"]

    def _read(self, row: int) -> tuple[np.ndarray, dict[str, Any]]:
        name = self.paths[row]
        if name is None:
            raise UnreadableImage("the table names no file for this row")
        path = self.root / name
        if not path.is_file():
            raise UnreadableImage(f"{name}: no such file")
        content = load_file(path)
        read = read_bytes(content, str(path), size=self.size, fit=self.fit, accept=self.accept)
        return read.pixels, {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": list(map(int, read.original_size)),
            "placement": list(map(float, read.placement)),
            "turn": read.turn,
            "range": list(map(float, read.pixel_range)),
            "kind": read.kind,
            "notes": list(read.notes),
        }

    def _loaded(self, row: int) -> tuple[np.ndarray, dict[str, Any]]:
        assert self.load is not None
        loaded = np.ascontiguousarray(self.load(row))
        pixels, placement = fit_square(loaded, self.size, self.fit)
        return pixels, {
            "sha256": hashlib.sha256(loaded.tobytes()).hexdigest(),
            "size": list(loaded.shape),
            "placement": list(map(float, placement)),
            "turn": AS_STORED,
            "range": [0.0, 255.0],
            "kind": "array",
            "notes": [],
        }


def _load_after(
    load: Callable[[int], UInt8[np.ndarray, "height width"]], start: int, row: int
) -> UInt8[np.ndarray, "height width"]:
    return load(start + row)


def decode(decoder: Decoder, workers: int, cluster: str | None = None) -> None:
    """Make all missing parts in processes of this machine, or on a Dask cluster as `core.cluster.connect` takes it.

    Raises:
        DataError: the disk is full, a worker process was killed, or the cluster cannot be used. Finished parts stay.
        RecipeError: Dask is missing, or the cluster has other versions of trcgl or of its packages.
    """
    todo = [part for part in range(decoder.parts) if not decoder.path(part).exists()]
    images = sum(len(decoder.rows(part)) for part in todo)
    if cluster is not None and todo:
        made = _on_cluster(decoder, todo, workers, cluster)
    else:
        workers = min(workers or machine.cpus(), len(todo))
        made = _here(decoder, todo) if workers < 2 else _aside(decoder, todo, workers)
    for _ in track((row for part in made for row in decoder.rows(part)), total=images, what="reading radiographs"):
        pass


def _here(decoder: Decoder, todo: list[int]) -> Iterator[int]:
    for part in todo:
        decoder.make(part)
        yield part


def _aside(decoder: Decoder, todo: list[int], workers: int) -> Iterator[int]:
    # Spawned, not forked: polars and BLAS hold threads and locks that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (decoder,))
    try:
        waiting = {pool.submit(_make, part) for part in todo}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was killed, most likely for lack of memory. Run the same command again with "
            "fewer --workers; finished parts are kept. In a script of your own, work that starts processes "
            'belongs below `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Task:
    """A part to decode on a worker of a cluster, which needs to read the archive but not to write anything."""

    decoder: Decoder  # of the part alone

    @property
    def files(self) -> list[Path]:
        return [self.decoder.root / path for path in self.decoder.paths if path is not None]

    def __call__(self) -> bytes:
        return self.decoder.content(0)


def _on_cluster(decoder: Decoder, todo: list[int], workers: int, cluster: str) -> Iterator[int]:
    with connect(cluster, workers) as client:
        contents = map_on(client, (_Task(decoder.alone(part)) for part in todo))
        with closing(contents):
            for part, content in zip(todo, contents, strict=True):
                decoder.write(part, content)
                yield part


_decoder: Decoder | None = None


def _start_worker(decoder: Decoder) -> None:
    global _decoder
    _decoder = decoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption means
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _make(part: int) -> int:
    assert _decoder is not None
    _decoder.make(part)
    return part
