"""Output folders that one process writes at a time.

The lock is the file `.lock` in the folder, which is removed at the end. The system releases it however a process ends,
so a file that a killed process left behind locks nothing. On a file system without locks nothing is locked.
"""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trcgl.core.errors import DataError, RecipeError
from trcgl.core.write_errors import writing

LOCK = ".lock"
_descriptors: set[int] = set()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Reserve an output folder for this process; the folder is made, and removed again if it stays empty.

    Raises:
        DataError: another process writes to the folder, or this one cannot.
        RecipeError: there is a file of that name.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"{folder} is a file. Choose another --out.")
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with locked_by(folder / LOCK, folder):
            yield
    finally:
        with suppress(OSError):  # a folder that is not empty
            for path in new:
                path.rmdir()


@contextmanager
def locked_by(path: Path, folder: Path) -> Iterator[None]:
    """Reserve `folder` for this process by the lock file `path`, where the folder itself is replaced.

    Raises:
        DataError: another process writes to the folder, or the lock file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path, folder)
        _descriptors.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _descriptors:  # not in a forked process
            _descriptors.remove(descriptor)
            with suppress(OSError):  # the folder was removed, or cannot be written to any more
                path.unlink()
            os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file; False if another process holds the lock. True on a file system without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _open(path: Path, folder: Path) -> int:
    """Open and lock the file `path`."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not try_lock(descriptor):
                holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
                raise DataError(f"{folder}: {holder} writes to it. Let that process finish, or choose another --out.")
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    os.truncate(descriptor, 0)
                    os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the process that held the lock has removed the file


def _release_in_child() -> None:
    """Close the lock files in a forked process, which would hold the locks of a parent that was killed."""
    while _descriptors:
        os.close(_descriptors.pop())


os.register_at_fork(after_in_child=_release_in_child)
