"""The folder of files that wait: received studies, and answers that are not sent yet."""

import shutil
import tempfile
import threading
from pathlib import Path
from typing import IO

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.lock import try_lock
from trcgl.core.write_errors import writing


class Full(Exception):
    """The spool holds as many bytes or files as it may."""


class Spool:
    """Files in a folder, bounded in bytes and in number; several threads may use it.

    Args:
        folder: the folder, created if missing, readable by its owner only. Files that an earlier server left in it are
            still there. None: a temporary folder that `close` removes.
        largest_bytes: from this size on, bounded files are refused.
        largest_files: from this number on, bounded files are refused.

    Raises:
        DataError: the folder cannot be written to, or another server uses it.
    """

    def __init__(self, folder: Path | None, *, largest_bytes: int, largest_files: int) -> None:
        self.lasting = folder is not None
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="trcgl-spool-")
        self.folder = Path(folder or self._temporary.name).absolute()  # type: ignore[union-attr]
        self._largest_bytes, self._largest_files = largest_bytes, largest_files
        self._turn = threading.Lock()
        self._lock = _locked(self.folder)
        for part in self.folder.glob("*/.*.part"):  # of a server that was killed
            part.unlink(missing_ok=True)
        self._sizes = {path: path.stat().st_size for path in self.folder.glob("*/*")}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        with self._turn:
            return sum(self._sizes.values())

    @property
    def count(self) -> int:
        """Number of files."""
        return len(self._sizes)

    @property
    def full(self) -> bool:
        """Whether bounded files are refused."""
        return self.count >= self._largest_files or self.size >= self._largest_bytes

    def put(self, name: str, content: bytes, *, bounded: bool = True) -> Path:
        """Write a file; it is on disk when this returns.

        `name`: name of the file behind a folder for its kind. `bounded`: False for answers, which must
        never wait for the space that their own study occupies.

        Raises:
            Full: the file would exceed a limit.
            DataError: the disk is full.
        """
        path = self.folder / name
        with self._turn:
            size, count = sum(self._sizes.values()) + len(content), len(self._sizes) + 1
            if bounded and (size > self._largest_bytes or count > self._largest_files):
                raise Full
            self._sizes[path] = len(content)
        try:
            with storage.atomic(path) as aside:
                aside.write_bytes(content)
        except BaseException:
            self._forget(path)
            raise
        return path

    def remove(self, path: Path) -> None:
        """Delete a file."""
        path.unlink(missing_ok=True)
        self._forget(path)

    def move(self, path: Path, target: Path) -> None:
        """Move a file out of the spool; the target may be on another file system.

        Raises:
            DataError: the target cannot be written.
        """
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.move(path, target)
        self._forget(path)

    def waiting(self, kind: str) -> list[Path]:
        """All files of a kind, the oldest first if their names begin with a time."""
        with self._turn:
            return sorted(path for path in self._sizes if path.is_relative_to(self.folder / kind))

    def close(self) -> None:
        """Release the folder; a temporary one is removed with its files."""
        self._lock.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _forget(self, path: Path) -> None:
        with self._turn:
            self._sizes.pop(path, None)


def _locked(folder: Path) -> IO[bytes]:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = open(folder / "lock", "wb")  # noqa: SIM115
    if not try_lock(handle.fileno()):
        handle.close()
        raise DataError(f"{folder}: another server uses this spool. Choose another folder with --spool.")
    return handle
