"""Several processes that read radiographs, and threads that wait for them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue

from trcgl.core import machine
from trcgl.imaging.file_process import FileProcess


class FilePool:
    """Processes that take turns. A file that crashes or hangs one costs that file alone; another takes its place.

    Args:
        seconds: what one file may take.
        workers: how many; 0 takes one per CPU.
        ready: as of `FileProcess`.
    """

    def __init__(self, seconds: float, workers: int = 0, *, ready: bool = False) -> None:
        count = workers or machine.cpus()
        self._processes = [FileProcess(seconds, ready=ready) for _ in range(count)]
        self._idle: SimpleQueue[FileProcess] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self.threads = ThreadPoolExecutor(count, "decode")
        """One per process, to wait for it in; all decoding happens there."""

    def start(self) -> None:
        """Start all processes, so that the first file does not wait for one.

        Raises:
            DataError: one cannot be started.
        """
        for _ in self.threads.map(FileProcess.start, self._processes):
            pass

    @contextmanager
    def process(self) -> Iterator[FileProcess]:
        """The next process that is idle."""
        process = self._idle.get()
        try:
            yield process
        finally:
            self._idle.put(process)

    @property
    def running(self) -> list[int]:
        """The process ids of those that run."""
        return [one for process in self._processes if (one := process.pid) is not None]

    def close(self) -> None:
        """End all processes, whatever they do: a file in work must not delay an interruption."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            with suppress(OSError):
                process.close()
        self.threads.shutdown()
