"""Run tasks on a Dask cluster, the engine for work on several machines; nothing here runs on a single machine.

A task is a picklable object that names the files it reads and returns a value. The files lie on a file system that all
machines mount under the same path; workers only read it, and the caller writes what tasks return.
"""

import functools
import importlib
import os
import shutil
import socket
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from trcgl.core import plugin
from trcgl.core.errors import DataError, RecipeError, TrcglError

if TYPE_CHECKING:
    from distributed import Client, Future

Result = TypeVar("Result", covariant=True)

SLURM = "slurm"
CONNECT_SECONDS = 60.0
"""Longest wait for the scheduler of a running cluster, and for its first worker."""
CHECK_SECONDS = 30.0
"""How often the workers are counted while a result is waited for."""
_AHEAD = 4  # tasks in work or done per thread of the cluster, beyond the task that the caller waits for
PACKAGES = (
    *("trcgl-net", "numpy", "pillow", "torch", "timm", "onnxruntime"),
    *("pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "python-gdcm"),
)
"""Packages that decide the bytes of a result."""


@runtime_checkable
class Task(Protocol[Result]):
    """Work for one worker; small when pickled."""

    @property
    def files(self) -> Sequence[Path]:
        """Files that the task reads, as absolute paths."""
        ...

    def __call__(self) -> Result:
        """The result, computed on the worker."""
        ...


@contextmanager
def connect(cluster: str, workers: int = 0) -> Iterator["Client"]:
    """Connect to a Dask cluster that has a worker.

    Args:
        cluster: address of the scheduler (`tcp://host:8786`), a scheduler file, or `slurm`, which submits jobs as the
            site's `jobqueue.yaml` says and ends them with the context.
        workers: number of worker processes to ask SLURM for; 0 for any other cluster.

    Raises:
        RecipeError: Dask is not installed, `jobqueue.yaml` lacks a setting, SLURM refuses the jobs, or `workers` does
            not fit the cluster.
        DataError: the scheduler cannot be reached, or has no worker.
    """
    distributed = _installed("distributed")
    if cluster != SLURM:
        if workers:
            raise RecipeError(f"--workers {workers}: {cluster} decides how many workers it has. Leave --workers out.")
        where = {"scheduler_file": cluster} if Path(cluster).is_file() else {"address": cluster}
        try:
            client = distributed.Client(**where, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"--cluster {cluster}: no Dask scheduler answers there (waited at most {CONNECT_SECONDS:g} s). Give "
                "an address such as tcp://host:8786, a scheduler file, or slurm."
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            except TimeoutError as error:
                raise DataError(
                    f"--cluster {cluster}: the scheduler has no worker (waited {CONNECT_SECONDS:g} s). Start workers: "
                    f"dask worker {cluster}"
                ) from error
            _check_workers(client)
            yield client
        return
    if workers < 1:
        raise RecipeError("--cluster slurm: give the number of worker processes, for instance --workers 32.")
    jobqueue = _installed("dask_jobqueue")
    if shutil.which("sbatch") is None:
        raise RecipeError("--cluster slurm: there is no command sbatch here. Run trcgl on a login node of the cluster.")
    try:
        jobs = jobqueue.SLURMCluster()
    except (ValueError, TypeError) as error:
        raise RecipeError(f"--cluster slurm: jobqueue.yaml does not describe the jobs of this site: {error}") from error
    with jobs, distributed.Client(jobs, set_as_default=False) as client:
        jobs.scale(n=workers)
        print(f"waiting for SLURM to start the first of {workers} workers", file=sys.stderr, flush=True)
        while True:  # the queue may be long
            try:
                client.wait_for_workers(1, timeout=CHECK_SECONDS)
                break
            except TimeoutError as error:
                refused = [job for job in jobs.workers.values() if job.status != distributed.Status.running]
                if len(refused) == len(jobs.workers):
                    for job in refused:  # as Dask leaves it, and then asserts otherwise at the end
                        job.status = distributed.Status.failed
                    raise RecipeError(
                        "--cluster slurm: sbatch has refused the jobs, for the reason above. Correct jobqueue.yaml."
                    ) from error
        _check_workers(client)
        yield client


def map_on(client: "Client", tasks: Iterable[Task[Result]]) -> Generator[Result, None, None]:
    """Results of the tasks, in order; tasks are taken only as workers need them.

    A task whose worker is lost runs again on another worker. Closing the generator cancels tasks that have not ended.

    Raises:
        RecipeError: a worker has another version of trcgl or of a package that decides the result.
        DataError: a worker does not see a file that this machine sees, the cluster is lost, or a task ended several
            workers.
        TrcglError: as the task raises on its worker; the message names the host.
    """
    plugins = [str(sys.modules[name].__file__) for name in plugin.LOADED]
    waiting: deque[Future] = deque()
    try:
        for task in tasks:
            waiting.append(client.submit(_run, task, versions(), plugins, pure=False))
            while len(waiting) > _AHEAD * _threads(client):
                yield _result(client, waiting.popleft())
        while waiting:
            yield _result(client, waiting.popleft())
    finally:
        with suppress(Exception):  # the connection may be what failed
            client.cancel(list(waiting))


def _check_workers(client: "Client") -> None:
    """Compare versions without a task, which workers without trcgl could not unpickle: Dask ends them."""
    found: Any = client.get_versions(packages=PACKAGES)
    for address, worker in found["workers"].items():
        _compare(address, worker["packages"], versions())


@functools.cache
def versions() -> dict[str, str | None]:
    """Versions here of the packages that decide the bytes of a result; None for a package that is not installed."""
    found: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _compare(host: str, theirs: Mapping[str, str | None], ours: Mapping[str, str | None]) -> None:
    for package, version in ours.items():
        if theirs.get(package) != version:
            raise RecipeError(
                f"the worker on {host} has {package} {theirs.get(package) or '(not installed)'}, this machine "
                f"{version or '(not installed)'}: results could differ. Install the same versions on both."
            )


def _run(task: Task[Any], expected: dict[str, str | None], plugins: Sequence[str]) -> tuple[Any, str, list[Path]]:
    """Run a task on a worker; the result, the name of this host, and the files that do not exist here."""
    host = socket.gethostname()
    _compare(host, versions(), expected)
    try:
        for file in map(Path, plugins):
            if file.stem not in plugin.LOADED:
                plugin.load_plugin(file)
        result = task()
    except TrcglError as error:
        raise DataError(f"on the worker on {host}: {error}") from error
    return result, host, [path for path in task.files if not os.path.exists(path)]


def _result(client: "Client", future: "Future") -> Any:
    distributed = _installed("distributed")
    without = 0
    while True:
        try:
            with client.as_current():
                distributed.wait([future], timeout=CHECK_SECONDS)
            break
        except TimeoutError as error:
            if client.cluster is not None:  # submit the jobs again that ended, for instance at their time limit
                client.cluster.scale(jobs=len(client.cluster.worker_spec))
                continue
            without = 0 if _threads(client) else without + 1
            if without > 1:
                raise DataError(
                    "the cluster has lost all workers. Start new ones; the same command resumes."
                ) from error
    try:
        result, host, missing = future.result()
    except distributed.KilledWorker as error:
        raise DataError(
            f"{error.allowed_failures + 1} workers ended while they ran the same task, most likely for lack of memory. "
            "Their logs tell. Give workers more memory or fewer threads; the same command resumes."
        ) from error
    except CancelledError as error:
        raise _lost() from error
    for path in missing:
        if os.path.exists(path):
            raise DataError(
                f"{path}: the worker on {host} does not see this file, but this machine does. Mount the same file "
                "system there under the same path."
            )
    return result


def _threads(client: "Client") -> int:
    try:
        return sum(client.nthreads().values())
    except OSError as error:
        raise _lost() from error


def _lost() -> DataError:
    return DataError("the connection to the scheduler is lost. The same command resumes once it runs again.")


def _installed(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RecipeError(f"--cluster needs {module}: pip install 'trcgl-net[cluster]'") from error
