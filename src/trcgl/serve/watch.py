"""A folder whose files are scored as they arrive; they stay where they are."""

import hashlib
import time
from pathlib import Path

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.imaging.dicom import study_digest
from trcgl.imaging.radiograph import kind_of, load_file
from trcgl.predict.inputs import find_files, fingerprint
from trcgl.serve.spool import Spool
from trcgl.serve.studies import Assembly, Study

FINISHED = "finished.txt"
SCAN_SECONDS = 1.0
"""Shortest time between two scans; a scan that takes long is repeated after ten times as long."""


class Watched:
    """Studies of the files in a folder and its subfolders, except hidden files.

    A file is whole when its size and time have not changed for the quiet interval. The digests of finished files (name,
    size, time) are kept in the spool, so that a file is scored once, and again if it changes.

    Raises:
        DataError: the folder does not exist.
    """

    def __init__(self, folder: Path, spool: Spool, quiet_seconds: float) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder. Name an existing folder with --watch.")
        self._folder, self._spool, self._quiet_seconds = folder, spool, quiet_seconds
        self._assembly = Assembly(quiet_seconds)
        self._changing: dict[str, tuple[str, float]] = {}
        """Name of each file to its fingerprint and the time since when it has it."""
        self._waiting: dict[str, str] = {}
        """Name of each whole file that is not finished to its fingerprint."""
        self._record = spool.folder / FINISHED
        self._finished = set(self._record.read_text().split()) if self._record.exists() else set()
        self._due = 0.0

    def take(self) -> Study | None:
        """See `Source`; no further files are taken while the spool is full."""
        if time.monotonic() >= self._due and not self._spool.full:
            start = time.monotonic()
            self._scan()
            now = time.monotonic()
            self._due = now + max(SCAN_SECONDS, 10 * (now - start))
        return self._assembly.take()

    def finish(self, study: Study) -> None:
        """See `Source`."""
        digests = [_digest(self._waiting.pop(name)) for name in study.files]
        self._finished.update(digests)
        with open(self._record, "a", encoding="ascii") as handle:
            handle.writelines(f"{digest}\n" for digest in digests)

    def postpone(self, study: Study) -> None:
        """See `Source`."""
        for name, path in study.files.items():
            self._assembly.add(study.name, name, path)

    def _scan(self) -> None:
        try:
            files = find_files([self._folder])
        except DataError:  # no file, or a network folder that is away for a while
            return
        now, before, self._changing = time.monotonic(), self._changing, {}
        for name, path in files.items():
            mark = fingerprint(name, path)
            known = before.get(name)
            since = known[1] if known is not None and known[0] == mark else now
            self._changing[name] = (mark, since)
            whole = now - since >= self._quiet_seconds
            if whole and self._waiting.get(name) != mark and _digest(mark) not in self._finished:
                self._waiting[name] = mark
                self._assembly.add(_study(name, path), name, path)
        self._forget_removed()

    def _forget_removed(self) -> None:
        """Shorten the record once most of its files have left the folder."""
        if len(self._finished) > 2 * len(self._changing) + 1000:
            self._finished &= {_digest(mark) for mark, _ in self._changing.values()}
            storage.write_text(self._record, "".join(f"{digest}\n" for digest in sorted(self._finished)))


def _digest(fingerprint: str) -> str:
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:32]


def _study(name: str, path: Path) -> str:
    """Digest of the study of a DICOM file; the name of any other file."""
    try:
        content = load_file(path)
        study = study_digest(content) if kind_of(content) == "dicom" else None
    except Exception:  # of any kind: pydicom parses what somebody put there; scoring finds the reason
        study = None
    return study or name
