"""A pool of processes that read radiographs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue

from trcgl.core import machine
from trcgl.imaging.file_process import FileProcess


class FilePool:
    """A pool of `FileProcess`; a process that crashes or hangs on a file is replaced and costs that file only."""

    def __init__(self, seconds: float, workers: int = 0, *, ready: bool = False) -> None:
        count = workers or machine.cpus()
        self._processes = [FileProcess(seconds, ready=ready) for _ in range(count)]
        self._idle: SimpleQueue[FileProcess] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self.threads = ThreadPoolExecutor(count, "decode")
        """A thread per process, which waits for it; decoding happens in the processes."""

    def start(self) -> None:
        """Start all processes, so that the first file does not wait for a start."""
        for _ in self.threads.map(FileProcess.start, self._processes):
            pass

    @contextmanager
    def process(self) -> Iterator[FileProcess]:
        """The next idle process."""
        process = self._idle.get()
        try:
            yield process
        finally:
            self._idle.put(process)

    @property
    def running(self) -> list[int]:
        """Ids of the running processes."""
        return [pid for process in self._processes if (pid := process.pid) is not None]

    def close(self) -> None:
        """End all processes at once: a file in work must not delay an interruption."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            with suppress(OSError):
                process.close()
        self.threads.shutdown()
