"""A Dask cluster of two processes, and the loss of one of them."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def two_workers() -> Iterator[str]:
    """The address of a cluster of two worker processes on this machine, of one thread each."""
    distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")
    with distributed.LocalCluster(
        n_workers=2, processes=True, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


@contextmanager
def killing_a_worker(address: str, begun: Callable[[], bool]) -> Iterator[list[int]]:
    """Kill a worker process while both work on tasks, once work has begun; yields a list that then holds its id."""
    from distributed import Client

    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        with Client(address, set_as_default=False) as client:
            pids = client.run(os.getpid)
            while not ended.is_set():
                tasks = client.processing()
                if begun() and len(tasks) == len(pids) and all(tasks.values()):
                    worker = next(iter(pids))
                    os.kill(pids[worker], signal.SIGKILL)
                    killed.append(pids[worker])
                    return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()
