"""Files that cannot be written: the cause, and what the user can do about it."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trcgl.core.errors import DataError, TrcglError

_ACCESS = "You have no access to that file or folder: change its permissions, or choose another folder."
_VANISHED = "The folder was removed or unmounted while it was in use. Run the same command again."
_DISK = "The disk or the network file system failed: look into the log of the system, or choose another folder."
_OPEN = "Too many files are open: raise the limit with `ulimit -n`."
_SIZE = "The file system or a limit (`ulimit -f`) allows no file of that size. Choose another folder."
ADVICE = {
    errno.ENOSPC: "Free some space or choose another folder.",
    errno.EDQUOT: "Your quota is used up: free some space, ask for a larger quota, or choose another folder.",
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EROFS: "The file system is mounted read-only. Choose another folder.",
    errno.ENOENT: _VANISHED,
    errno.ESTALE: _VANISHED,
    errno.ENOTDIR: "A part of that path is a file. Choose another folder.",
    errno.EEXIST: "A part of that path is a file. Choose another folder.",
    errno.EISDIR: "There is a folder of that name. Choose another name.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EFBIG: _SIZE,
    errno.EMFILE: _OPEN,
    errno.ENFILE: _OPEN,
    errno.EIO: _DISK,
}
"""What to do, by the number of the error."""
NEVER_A_DEFECT = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ESTALE, errno.EFBIG),
    *(errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENAMETOOLONG),
)
"""Errors whose cause lies outside this program wherever they occur."""
_NO_FLUSH = (
    *(errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY),
    *(errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR),
)
"""Errors by which file systems (CIFS, VirtualBox, FUSE) say that they do not flush a file or a folder."""
_OF_RUST = re.compile(r"\(os error (\d+)\)")


@contextmanager
def writing(path: Path, aside: Path | None = None) -> Iterator[None]:
    """Report an error of the system as one of the file `path`, which is written through the file `aside`.

    Raises:
        DataError: the file cannot be written; names the file, the cause and the remedy.
    """
    try:
        yield
    except TrcglError:
        raise
    except Exception as error:
        number = number_of(error)
        if number is None and not isinstance(error, OSError):
            raise
        raise unwritable(path, error, aside) from error


def unwritable(path: Path, error: Exception, aside: Path | None = None) -> DataError:
    """The error that tells the user why `path` cannot be written."""
    number = number_of(error)
    why = os.strerror(number) if number else str(error)
    if isinstance(error, OSError):
        why = error.strerror or why
        other = error.filename is not None and Path(os.fsdecode(error.filename)) not in (path, aside, path.parent)
        why += f": {os.fsdecode(error.filename)}" if other else ""
    return DataError(f"{path}: cannot be written ({why}). {ADVICE.get(number or 0, 'Choose another folder.')}")


def number_of(error: Exception) -> int | None:
    """Number of a system error; None for other errors. Libraries in Rust write it into the message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OF_RUST.search(str(error))
    return int(found[1]) if found else None


def flush(descriptor: int) -> None:
    """Flush an open file or folder to disk, where the file system can do so.

    Raises:
        OSError: the disk is full, or failed.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise


def flush_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, where the file system can do so."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # no permission to list the folder, or a file system that opens no folders
        return
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)
