"""SIGTERM and SIGINT ask training to stop at the end of a step; a second one stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Which signal arrived, if any."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before = {one: signal.getsignal(one) for one in _SIGNALS}

    def listen(self) -> None:
        """Take the signals; called again where a library has put its own handlers in between.

        Only the main thread may: elsewhere the program that runs us deals with signals.
        """
        if threading.current_thread() is threading.main_thread():
            for one in _SIGNALS:
                signal.signal(one, self._received)

    def release(self) -> None:
        """Give the signals back to whom they belonged."""
        if threading.current_thread() is threading.main_thread():
            for one, handler in self._before.items():
                signal.signal(one, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.release()


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Listen for SIGTERM and SIGINT within a block."""
    request = StopRequest()
    request.listen()
    try:
        yield request
    finally:
        request.release()
