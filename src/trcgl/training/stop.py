"""SIGTERM and SIGINT stop training at the end of a step; a second signal stops it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightning.pytorch import Trainer

from trcgl.core.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """The signal that has arrived, if any."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}

    def listen(self) -> None:
        """Install the handlers; called again where a library has installed its own.

        Only the main thread can install handlers; in other threads this does nothing.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._received)

    def arrived(self, trainer: Trainer) -> bool:
        """Whether a process of the training has received a signal."""
        return trainer.strategy.reduce_boolean_decision(self.signal is not None, all=False)

    def interrupted(self, step: int) -> Interrupted:
        """The error that ends a training whose state is saved."""
        number = self.signal or signal.SIGTERM  # another process received it
        return Interrupted(number, f"stopped after step {step}; the same command resumes from there.")

    def release(self) -> None:
        """Restore the previous handlers."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

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
