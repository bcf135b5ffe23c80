"""Messages about files that cannot be written, and file systems that cannot flush folders."""

import errno
import json
import os
import stat

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from trcgl.core import storage
from trcgl.core.errors import CheckpointError, DataError
from trcgl.core.write_errors import unwritable, writing
from trcgl.training.checkpoint_io import WholeCheckpointIO

NUMBERS = [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM, errno.ENOSYS]


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_a_file_system_that_does_not_flush_folders_is_written_to(number, tmp_path, monkeypatch):
    flush = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    storage.write_json(tmp_path / "new" / "x.json", {"a": 1})
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {"a": 1}


def test_a_folder_that_cannot_be_opened_is_written_to(tmp_path, monkeypatch):
    open_any = os.open

    def files_only(path, flags, *more):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open_any(path, flags, *more)

    monkeypatch.setattr(os, "open", files_only)
    storage.write_text(tmp_path / "x", "a")
    assert (tmp_path / "x").read_text() == "a"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_failed_flush_is_an_error(number, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError, match=rf"x: cannot be written \({os.strerror(number)}\)"):
        storage.write_text(tmp_path / "x", "a")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space or choose another folder."),
        (errno.EDQUOT, "quota is used up"),
        (errno.EACCES, "no access to that file or folder: change its permissions"),
        (errno.EROFS, "mounted read-only"),
        (errno.ENOENT, "removed or unmounted"),
        (errno.ENOTDIR, "part of that path is a file"),
        (errno.EFBIG, "no file of that size"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "disk or the network file system failed"),
        (errno.ETIMEDOUT, "Choose another folder."),
    ],
)
def test_every_cause_has_its_own_advice(number, advice, tmp_path):
    message = str(unwritable(tmp_path / "x", OSError(number, os.strerror(number))))
    assert message.startswith(f"{tmp_path / 'x'}: cannot be written ({os.strerror(number)}). ")
    assert advice in message
    assert ("Free some space" in message) == (number == errno.ENOSPC)


def test_a_folder_that_vanishes_is_not_called_a_full_disk(tmp_path):
    (tmp_path / "run").mkdir()
    with (
        pytest.raises(DataError, match=r"No such file or directory\).*removed or unmounted"),
        storage.atomic(tmp_path / "run" / "x") as aside,
    ):
        aside.parent.rmdir()
        aside.write_text("a")


def test_another_file_that_cannot_be_read_meanwhile_is_named(tmp_path):
    with (
        pytest.raises(DataError, match=r"x: cannot be written \(No such file or directory: .*source\)"),
        storage.atomic(tmp_path / "x"),
    ):
        (tmp_path / "source").read_bytes()


@pytest.mark.parametrize("library", ["safetensors", "polars", "numpy"])
def test_errors_of_libraries_are_understood(library, tmp_path):
    """The folder of the file does not exist; safetensors and polars name the system's error in their messages only."""
    path = tmp_path / "none" / "x"
    message = r"x: cannot be written \(No such file or directory.*removed or unmounted"
    with pytest.raises(DataError, match=message), writing(path, path):
        if library == "safetensors":
            save_file({"a": torch.zeros(2)}, path)
        elif library == "polars":
            pl.DataFrame({"a": [1]}).write_parquet(path)
        else:
            np.save(path, np.zeros(2))


def test_messages_of_trcgl_pass_unchanged(tmp_path):
    with pytest.raises(CheckpointError, match="^w: damaged"), storage.atomic(tmp_path / "x"):
        raise CheckpointError("w: damaged (os error 2)")


def test_a_checkpoint_that_does_not_fit_is_refused_with_the_cause_that_torch_hides(tmp_path, monkeypatch):
    save = torch.save

    class Full:
        """A file on a disk that is full."""

        def write(self, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def flush(self):
            """Nothing was written."""

    monkeypatch.setattr(torch, "save", lambda value, handle: save(value, Full()))
    with pytest.raises(DataError, match=r"last\.ckpt: cannot be written \(No space left on device\). Free some space"):
        WholeCheckpointIO().save_checkpoint({"state_dict": {"a": torch.zeros(100)}}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())
