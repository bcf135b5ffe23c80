"""What was scored so far, so that an interrupted `predict` scores no file twice and ends with the same bytes.

One JSON line of settings, then one line per batch, each written whole and flushed before the next batch begins. A line
that was cut off by an interruption is dropped: its batch is scored again, in the same composition.
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
    """Consecutive files and what came of them.

    Args:
        image_ids: of the files that were scored.
        studies: of each, where studies were asked for.
        scores: of each, in the order of the findings.
        unreadable: image_id and reason of the others.
    """

    image_ids: list[str] = field(default_factory=list)
    studies: list[str | None] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)
    unreadable: list[list[str]] = field(default_factory=list)

    @property
    def files(self) -> int:
        """How many files it holds."""
        return len(self.image_ids) + len(self.unreadable)


class Journal:
    """The batches of one command, in memory and, with a path, on disk, where it is locked until it is closed.

    Args:
        path: None keeps nothing on disk.
        settings: all that decides the scores, digests of files included; plain JSON values.
        names: image_id of every file, in order.

    Raises:
        RecipeError: the journal on disk is of other settings.
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
        """Keep a batch; on return it is on disk.

        Raises:
            DataError: the disk is full.
        """
        self.batches.append(batch)
        self._append(asdict(batch))

    @property
    def done(self) -> int:
        """How many files it holds."""
        return sum(one.files for one in self.batches)

    def remove(self) -> None:
        """Delete the file, when its content has become the table."""
        if self.path is not None:
            self.path.unlink()

    def close(self) -> None:
        """Let another process have the file."""
        if self._handle is not None:
            with suppress(OSError):  # what is on no disk yet, `add` has told
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
        if len(content) < len(first) and first.encode().startswith(content):  # new, or cut off while it was begun
            os.truncate(path, 0)
            self._append(head)
        else:
            self._resume(path, content, json.loads(first), names)

    def _resume(self, path: Path, content: bytes, head: dict[str, Any], names: Sequence[str]) -> None:
        whole = content[: content.rfind(b"\n") + 1]
        try:
            found, *batches = [json.loads(line) for line in whole.splitlines()]
            self.batches = [Batch(**one) for one in batches]
            found = dict(found)  # a TypeError where it is none
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} was not left by an interrupted predict. Choose another --out.") from error
        if found != head:
            changed = sorted(one for one in {*found, *head} if found.get(one) != head.get(one))
            raise RecipeError(
                f"{path} is of a predict with other settings ({', '.join(changed)}). Run that command again to finish "
                "it, choose another --out, or remove that file yourself to begin anew."
            )
        start = 0
        for batch in self.batches:
            held = [*batch.image_ids, *(name for name, _ in batch.unreadable)]
            if sorted(held) != sorted(names[start : start + batch.files]):
                raise DataError(f"{path} is damaged: it skips or repeats files. Remove it yourself to begin anew.")
            start += batch.files
        if len(whole) < len(content):
            os.truncate(path, len(whole))


def _lock(path: Path, handle: IO[str]) -> None:
    """Keep others from writing; the system lets go of the file however this process ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"{path}: another predict writes it. Let that one finish, or choose another --out.") from error
    except OSError:
        pass  # a file system without locks is no reason to refuse


def _unwritable(path: Path, error: OSError) -> DataError:
    why = error.strerror or error
    return DataError(f"{path}: cannot be written ({why}). Free some space and run the same command again; it goes on.")
