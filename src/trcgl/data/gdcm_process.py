"""Decoding with gdcm in a process of its own, because gdcm aborts its process on many damaged files.

The process is started with the first file that needs it, serves one file after another, and ends with its parent. A
message is its length in eight bytes and its content: the DICOM file on the way in; a zero byte and an npy file, or a
one and the reason, on the way out.
"""

import atexit
import io
import os
import signal
import subprocess
import sys
import threading
from typing import IO

import numpy as np
from jaxtyping import Num

SECONDS = 120.0
"""What one file may take."""


class GdcmProcess:
    """The process, seen from outside; it may be used by several threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def pixels(self, content: bytes) -> Num[np.ndarray, "..."]:
        """The stored values of a DICOM file.

        Raises:
            ValueError: gdcm cannot decode it, died of it, or took more than `SECONDS`.
        """
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            process = self._process
            assert process.stdin is not None and process.stdout is not None
            watch = threading.Timer(SECONDS, process.kill)
            watch.start()
            try:
                _send(process.stdin, content)
                answer = _receive(process.stdout)
            except (OSError, EOFError) as error:
                self.close()
                raise ValueError("the decoder gdcm failed on it") from error
            finally:
                watch.cancel()
        if answer[:1] == b"\1":
            raise ValueError(answer[1:].decode())
        return np.load(io.BytesIO(answer[1:]), allow_pickle=False)

    def close(self) -> None:
        """End the process; the next file starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        atexit.register(self.close)
        return subprocess.Popen(
            [sys.executable, "-m", "trcgl.data.gdcm_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


def _send(stream: IO[bytes], content: bytes) -> None:
    stream.write(len(content).to_bytes(8, "little"))
    stream.write(content)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    length = stream.read(8)
    content = stream.read(int.from_bytes(length, "little"))
    if len(length) < 8 or len(content) < int.from_bytes(length, "little"):
        raise EOFError
    return content


def _serve() -> None:
    # An interruption is the parent's to handle: a file must not count as damaged because the user pressed Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the library prints must not mix with the answers
    while True:
        try:
            content = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            _send(answers, b"\0" + _decoded(content))
        except Exception as error:  # every reason goes back to the parent
            _send(answers, b"\1" + str(error).encode())


def _decoded(content: bytes) -> bytes:
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.pixel_array_options(decoding_plugin="gdcm")
    buffer = io.BytesIO()
    np.save(buffer, dataset.pixel_array)
    return buffer.getvalue()


if __name__ == "__main__":
    _serve()
