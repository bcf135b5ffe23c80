"""What was scored so far, so that an interrupted `predict` scores no file twice and ends with the same bytes.

One JSON line of settings, then one line per batch, each written whole and flushed before the next batch begins. A line
that was cut off by an interruption is dropped: its batch is scored again, in the same composition.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trcgl.core import run
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
    """The batches of one command, in memory and, with a path, on disk.

    Args:
        path: None keeps nothing on disk.
        settings: all that decides the scores, digests of files included; plain JSON values.

    Raises:
        RecipeError: the journal on disk is of other settings.
        DataError: the file is no journal, or cannot be written.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.batches: list[Batch] = []
        head = {"schema": SCHEMA, **settings}
        if path is None:
            return
        if path.exists():
            self._resume(path, json.loads(json.dumps(head)))
        else:
            run.write_text(path, json.dumps(head, allow_nan=False) + "\n")

    def add(self, batch: Batch) -> None:
        """Keep a batch; on return it is on disk.

        Raises:
            DataError: the disk is full.
        """
        self.batches.append(batch)
        if self.path is None:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                run.append_jsonl(handle, asdict(batch))
                os.fsync(handle.fileno())
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be written ({error.strerror or error}). Free some space and run the same command "
                "again; it goes on."
            ) from error

    def remove(self) -> None:
        """Delete the file, when its content has become the table."""
        if self.path is not None:
            self.path.unlink()

    def _resume(self, path: Path, head: dict[str, Any]) -> None:
        content = path.read_bytes()
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
        if len(whole) < len(content):
            os.truncate(path, len(whole))
