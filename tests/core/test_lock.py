"""Output folders that one process writes at a time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from trcgl.core import storage
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.lock import LOCK, locked

HOLD = """
import os, sys, time
from trcgl.core.lock import locked
with locked(sys.argv[1]):
    print(flush=True)
    time.sleep(60)
"""
HOLD_WITH_A_CHILD = HOLD.replace("    print", "    if os.fork() == 0: time.sleep(5); os._exit(0)\n    print")


@pytest.fixture
def holder(tmp_path):
    """Starts another process that holds the lock of `out`."""
    started = []

    def start(code=HOLD):
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "out"], stdout=subprocess.PIPE)
        process.stdout.readline()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_second_process_is_refused_with_the_folder_and_the_first_process(holder, tmp_path):
    first = holder()
    message = f"out: process {first.pid} on .* writes to it. Let that process finish, or choose another --out"
    with pytest.raises(DataError, match=message), locked(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / LOCK).exists()


def test_a_killed_process_locks_nothing(holder, tmp_path):
    holder().kill()
    time.sleep(0.2)
    with locked(tmp_path / "out"):
        assert storage.claim(tmp_path / "out", "recipe.json", "a") is False


def test_a_child_of_a_killed_process_locks_nothing(holder, tmp_path):
    holder(HOLD_WITH_A_CHILD).send_signal(signal.SIGKILL)
    time.sleep(0.2)
    with locked(tmp_path / "out"):
        pass


def test_a_folder_in_which_nothing_was_made_is_removed_and_another_is_kept(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a"):
        storage.write_text(tmp_path / "a" / "x", "kept")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]
    (tmp_path / "empty").mkdir()
    with locked(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EIO], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_written_to(number, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path / "out"):
        storage.write_text(tmp_path / "out" / "x", "a")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_a_file_in_the_place_of_the_folder_is_said_so(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(RecipeError, match="out is a file"), locked(tmp_path / "out"):
        pass
