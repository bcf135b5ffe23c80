"""The journal of `trcgl predict`: an interrupted command scores no file twice and ends with the same bytes.

The file holds one JSON line of settings, then one line per batch, each flushed to disk before the next batch begins. A
line cut off by an interruption is dropped, and its batch is scored again with the same files.
"""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from trcgl.core import storage
from trcgl.core.errors import DataError, RecipeError

SCHEMA = "trcgl.predict-journal/1"


@dataclass(frozen=True)
class Batch:
    """Results of consecutive files."""

    image_ids: list[str] = field(default_factory=list)
    studies: list[str | None] = field(default_factory=list)
    """Study of each scored file; None where studies were not asked for."""
    scores: list[list[float]] = field(default_factory=list)
    unreadable: list[list[str]] = field(default_factory=list)
    """image_id and reason of the files that were not scored."""

    @property
    def names(self) -> list[str]:
        """image_id of every file, readable or not."""
        return [*self.image_ids, *(name for name, _ in self.unreadable)]


class Journal:
    """The batches of one command, in memory and, with a path, in a file that is locked until `close`.

    Args:
        path: file of the journal; None keeps the batches in memory only.
        settings: everything that decides the scores, digests of files included; plain JSON values.
        names: image_id of every file, in order.

    Raises:
        RecipeError: the journal on disk has other settings.
        DataError: the file is no journal or not of these files, another process writes it, or it cannot be written.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any], names: Sequence[str]) -> None:
        self.path = path
        self.batches: list[Batch] = []
        self._handle: IO[str] | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = open(path, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            _lock(path, self._handle)
            self._begin_or_resume(path, {"schema": SCHEMA, **settings}, names)
        except BaseException:
            self.close()
            raise

    def add(self, batch: Batch) -> None:
        """Keep a batch; it is on disk when this returns."""
        self.batches.append(batch)
        self._append(asdict(batch))

    @property
    def done(self) -> int:
        """Number of files in the journal."""
        return sum(len(batch.names) for batch in self.batches)

    def remove(self) -> None:
        """Delete the file once the table is written."""
        if self.path is not None:
            self.path.unlink()

    def close(self) -> None:
        """Release the file for other processes."""
        if self._handle is not None:
            with suppress(OSError):  # `add` has raised for anything that did not reach the disk
                self._handle.close()

    def _append(self, value: dict[str, Any]) -> None:
        if self._handle is None or self.path is None:
            return
        try:
            storage.append_jsonl(self._handle, value)
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _begin_or_resume(self, path: Path, head: dict[str, Any], names: Sequence[str]) -> None:
        content = path.read_bytes()
        first = json.dumps(head, allow_nan=False) + "\n"
        if len(content) < len(first) and first.encode().startswith(content):  # new, or cut off in its first line
            os.truncate(path, 0)
            self._append(head)
            return
        whole = content[: content.rfind(b"\n") + 1]
        try:
            found, *batches = [json.loads(line) for line in whole.splitlines()]
            self.batches = [Batch(**batch) for batch in batches]
            found = dict(found)
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} was not left by an interrupted predict. Choose another --out.") from error
        head = json.loads(first)
        if changed := sorted(name for name in {*found, *head} if found.get(name) != head.get(name)):
            raise RecipeError(
                f"{path} is of a predict with other settings ({', '.join(changed)}). Run that command again to finish "
                "it, choose another --out, or remove the file to begin anew."
            )
        start = 0
        for batch in self.batches:
            end = start + len(batch.names)
            if sorted(batch.names) != sorted(names[start:end]):
                raise DataError(f"{path} is damaged: it skips or repeats files. Remove it yourself to begin anew.")
            start = end
        os.truncate(path, len(whole))


def _lock(path: Path, handle: IO[str]) -> None:
    """Exclude other writers; the system releases the lock however this process ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"{path}: another predict writes it. Let that one finish, or choose another --out.") from error
    except OSError:
        pass  # some file systems have no locks; predict works without


def _unwritable(path: Path, error: OSError) -> DataError:
    why = error.strerror or error
    return DataError(f"{path}: cannot be written ({why}). Free some space and run the same command again; it resumes.")
