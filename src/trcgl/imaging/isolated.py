"""Work on untrusted files in a separate process, so that a crash or a hang costs an answer and not the program.

The process runs a module of this package that calls `serve`. It starts with the first question and ends with its
parent: at once while it waits for a question, and at the time limit while it works on a question. A message is its
length in eight bytes followed by its content. A question is two messages: its time limit in seconds, and its content.
An answer begins with byte 0, or with byte 1 and the reason of a failure. Nothing is unpickled on either side.
"""

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from trcgl.core.errors import DataError

_ANSWER, _REASON = b"\0", b"\1"
_START_SECONDS, _END_SECONDS = 120.0, 5.0
_ALONE_SECONDS = 3.0  # seconds after its time limit at which the process ends itself if no parent did
_serving = False  # whether this process itself runs `serve`


class Lost(ValueError):
    """The process crashed on a question, or took too long."""


class Late(Lost):
    """The process exceeded the time limit of a question and was ended."""


class IsolatedProcess:
    """Handle of the process; several threads may use it and take turns.

    Args:
        module: name of the module that calls `serve`.
    """

    def __init__(self, module: str, seconds: float, arguments: Sequence[str] = ()) -> None:
        self.seconds = seconds
        self._module, self._arguments = module, arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id, or None while the process does not run."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    def start(self) -> None:
        """Start the process before the first question, if it does not run."""
        with self._turn, self._buried_after_any_error():
            self._start()

    def ask(self, question: bytes) -> bytes:
        """The answer to a question.

        Raises:
            ValueError: the work failed; the message is the reason.
            Lost: the process crashed or took more than `seconds`; the next question starts a new process.
        """
        with self._turn, self._buried_after_any_error():
            self._start()
            answer = self._exchange(question, self.seconds)
        if answer[:1] == _REASON:
            raise ValueError(answer[1:].decode())
        return answer[1:]

    def close(self) -> None:
        """End the process at once; a later request starts a new process."""
        if (process := self._process) is not None:
            _kill(process)
        # A thread that waits for an answer notices the end of the process and gives up its turn.
        if self._turn.acquire(timeout=_END_SECONDS):
            try:
                self._bury()
            finally:
                self._turn.release()

    @contextmanager
    def _buried_after_any_error(self) -> Iterator[None]:
        """After an interrupted exchange an answer may wait in the pipe, and must not reach the next question."""
        try:
            yield
        except BaseException:
            self._bury()
            raise

    def _start(self) -> None:
        """Start the process, if it does not run."""
        if self._process is not None and self._process.poll() is None:
            return
        self._bury()
        try:
            self._process = subprocess.Popen(
                # -P: a module in the current folder must not replace a standard module.
                [sys.executable, "-P", "-m", self._module, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=None if _serving else 0,  # so that its child processes end with it
            )
            atexit.register(self.close)
            self._exchange(None, _START_SECONDS)
        except (OSError, Lost) as error:
            raise DataError(
                f"a process for decoding (python -m {self._module}) cannot be started. Is memory short? `trcgl doctor` "
                "shows what this machine has."
            ) from error

    def _exchange(self, question: bytes | None, seconds: float) -> bytes:
        process, late = self._process, threading.Event()
        assert process is not None and process.stdin is not None and process.stdout is not None

        def stop() -> None:
            late.set()
            _kill(process)

        watch = threading.Timer(seconds, stop)
        watch.daemon = True
        try:
            watch.start()
            if question is not None:
                _send(process.stdin, str(seconds).encode())
                _send(process.stdin, question)
            return _receive(process.stdout)
        except (OSError, EOFError) as error:
            if late.is_set():
                raise Late(f"took more than {seconds:g} s") from error
            raise Lost("crashed") from error
        finally:
            watch.cancel()

    def _bury(self) -> None:
        """End the process, if any, and close its pipes."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.close)
        _kill(process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):  # bytes of an unread question are lost
                pipe.close()


def serve(answer: Callable[[bytes], bytes]) -> None:
    """Answer questions from stdin until the parent is gone."""
    global _serving
    _serving = True
    # An interruption is the parent's to handle: a file must not count as damaged because the user pressed Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process even if a decoder never returns
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of a library must not mix with the answers
    _send(answers, _ANSWER)  # ready
    while True:
        try:
            seconds = float(_receive(sys.stdin.buffer))
            question = _receive(sys.stdin.buffer)
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, seconds + _ALONE_SECONDS)
        try:
            reply = _ANSWER + answer(question)
        except Exception as error:  # every reason goes back to the parent
            reply = _REASON + (str(error) or type(error).__name__).encode()
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(answers, reply)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if _serving:
        process.kill()
    elif process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


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
