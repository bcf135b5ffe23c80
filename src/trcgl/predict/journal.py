"""The journal of `trcgl predict`: an interrupted command scores no file twice and ends with the same bytes.

The file holds one JSON line of settings, then one line per batch, each flushed to disk before the next batch begins. A
line cut off by an interruption is dropped, and its batch is scored again with the same files.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from trcgl.core import storage
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.lock import try_lock
from trcgl.core.write_errors import flush, writing

SCHEMA = "trcgl.predict-journal/1"


@dataclass(frozen=True)
class Batch:
    """Results of consecutive files."""

    image_ids: list[str] = field(default_factory=list)
    studies: list[str | None] = field(default_factory=list)
    """Study of each file of `image_ids`; None where studies were not asked for, or where a refused file has none."""
    scores: list[list[float] | None] = field(default_factory=list)
    """Scores of each file of `image_ids`; None for a file that is refused."""
    unreadable: list[list[str]] = field(default_factory=list)
    """image_id and reason of the files that cannot be read."""
    identifiers: list[Mapping[str, str | None] | None] = field(default_factory=list)
    """Identifiers of each file of `image_ids`; empty where they were not asked for."""
    refused: dict[str, str] = field(default_factory=dict)
    """image_id to reason of the files of `image_ids` that are readable, but not accepted."""

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
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = open(path, "a", encoding="utf-8")  # noqa: SIM115
        try:
            if not try_lock(self._handle.fileno()):
                why = "another predict writes it. Let that one finish, or choose another --out."
                raise DataError(f"{path}: {why}")
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
        with _resumable(self.path):
            storage.append_jsonl(self._handle, value)
            flush(self._handle.fileno())

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
        nothing = found.get("schema") == SCHEMA and not any(row for batch in self.batches for row in batch.scores)
        if found != head and nothing:
            os.truncate(path, 0)
            self.batches = []
            self._append(head)
            return
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


@contextmanager
def _resumable(path: Path) -> Iterator[None]:
    """Add to the message about a failed write that the work so far is kept."""
    try:
        with writing(path):
            yield
    except DataError as error:
        raise DataError(f"{error} The same command resumes.") from error
