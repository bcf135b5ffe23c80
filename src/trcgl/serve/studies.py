"""Studies that arrive are scored once they are complete, and their answers are delivered.

A source (the DICOM port, a watched folder) hands over complete studies. One thread scores them, one after the other,
writes the answers into a folder, and hands them to the thread that sends them on.
"""

import hashlib
import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trcgl.core import storage
from trcgl.core.errors import DataError, TrcglError
from trcgl.serve.metrics import Metrics

POLL_SECONDS = 0.2
_DIGEST = re.compile("[0-9a-f]{16}")
_log = logging.getLogger("trcgl.serve")


@dataclass(frozen=True)
class Study:
    """The files of one complete study."""

    name: str
    """Digest of the StudyInstanceUID, or the name of a file that belongs to no study."""
    files: Mapping[str, Path]
    """Name of each image, and its file."""

    @property
    def label(self) -> str:
        """The study in a log, which must not hold names of files: they may name a patient."""
        return self.name if _DIGEST.fullmatch(self.name) else hashlib.sha256(self.name.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Answer:
    """What a study is answered with."""

    scores: dict[str, Any]
    """JSON value of schema `trcgl.scores/1`."""
    documents: Mapping[str, bytes]
    """Name of each DICOM file of the answer (structured report, maps), and its content."""
    reasons: Sequence[str]
    """Why images were not scored, and what is missing or changed in the report; without names of files."""


@runtime_checkable
class Source(Protocol):
    """Where studies come from."""

    def take(self) -> Study | None:
        """The next complete study, or None."""

    def finish(self, study: Study) -> None:
        """Forget a study that was answered."""

    def postpone(self, study: Study) -> None:
        """Offer a study again later, because its answer could not be delivered."""


class Assembly:
    """Files by study; a study is complete when none of its files has arrived for the quiet interval."""

    def __init__(self, quiet_seconds: float) -> None:
        self._quiet_seconds = quiet_seconds
        self._files: dict[str, dict[str, Path]] = {}
        self._last: dict[str, float] = {}
        self._turn = threading.Lock()

    def add(self, study: str, image: str, file: Path) -> Path | None:
        """Add a file; an earlier file of the same image is replaced and returned."""
        with self._turn:
            self._last[study] = time.monotonic()
            files = self._files.setdefault(study, {})
            before, files[image] = files.get(image), file
            return before

    def take(self) -> Study | None:
        """Take out the next complete study."""
        with self._turn:
            due = time.monotonic() - self._quiet_seconds
            name = next((name for name, last in self._last.items() if last <= due), None)
            if name is None:
                return None
            del self._last[name]
            return Study(name, self._files.pop(name))

    def __len__(self) -> int:
        """Number of studies that are not complete."""
        return len(self._last)


class Studies:
    """The thread that scores complete studies and delivers their answers.

    Args:
        sources: where studies come from.
        answer: scores a study.
        out: folder for the answers, or None.
        send: hands a DICOM file to the thread that sends it on, or None.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        answer: Callable[[Study], Answer],
        metrics: Metrics,
        out: Path | None,
        send: Callable[[bytes], None] | None,
    ) -> None:
        self._sources, self._answer, self._metrics, self._out, self._send = sources, answer, metrics, out, send
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="studies", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the study in work."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            for source in self._sources:
                try:
                    while not self._stop.is_set() and (study := source.take()) is not None:
                        self._handle(source, study)
                except Exception as error:
                    _log.error("%s", _reason(error))

    def _handle(self, source: Source, study: Study) -> None:
        start, outcome = time.perf_counter(), "failed"
        try:
            answer = self._answer(study)
            self._deliver(study, answer)
        except DataError as error:
            _log.error("study %s waits, because its answer cannot be written: %s", study.label, error)
            source.postpone(study)
            return
        except Exception as error:
            _log.error("study %s has no answer: %s", study.label, _reason(error))
        else:
            for reason in answer.reasons:
                _log.warning("study %s: %s", study.label, reason)
            outcome = "scored" if answer.scores["studies"] else "unreadable"
            seconds = time.perf_counter() - start
            _log.info("study %s %s: %d files, %.0f ms", study.label, outcome, len(study.files), 1000 * seconds)
        self._metrics.studies.labels(outcome).inc()
        source.finish(study)

    def _deliver(self, study: Study, answer: Answer) -> None:
        if self._out is not None:
            folder = _new_folder(self._out, study.name)
            for name, content in answer.documents.items():
                with storage.atomic(folder / name) as aside:
                    aside.write_bytes(content)
            storage.write_json(folder / "scores.json", answer.scores)
        if self._send is not None:
            for content in answer.documents.values():
                self._send(content)


def _new_folder(out: Path, study: str) -> Path:
    """The folder of an answer; `scores.json` is written last, so a folder without it is not finished."""
    name = re.sub(r"[^\w.+-]|^\.", "_", study)
    names = itertools.chain([name], (f"{name}-{count}" for count in itertools.count(2)))
    return next(folder for name in names if not (folder := out / name).joinpath("scores.json").exists())


def _reason(error: Exception) -> str:
    # The message of any other error may quote a file, which names a patient.
    return str(error) if isinstance(error, TrcglError) else f"defect of trcgl: {type(error).__name__}"
