"""Train the runs of a study one after the other, each in its own process; several commands can share one folder.

A run belongs to the process that holds its lock, and is done when its outcome file exists. Whatever ends a process, the
next command finds every run finished, resumable or untouched.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from trcgl.core import plugin
from trcgl.core.errors import Interrupted, RecipeError
from trcgl.core.progress import track
from trcgl.study.plan import Plan
from trcgl.study.stored import path_in
from trcgl.study.worker import BUSY, Job, held, try_out, work

PATIENCE = 0.2
"""Seconds between two looks at the current run."""
ROUND = 10.0
"""Seconds between two looks at all runs."""
PRELOAD = ("trcgl.training.train", "trcgl.evaluate.evaluate", "trcgl.study.worker")


def jobs_of(plan: Plan, out: Path, seeds: Sequence[int] | None = None) -> list[Job]:
    """The runs of a plan, seed by seed, so that a study that is cut short has equally many seeds for all arms.

    Args:
        plan: the plan of the study.
        out: the study folder.
        seeds: seeds of the runs; default: the seeds that the plan compares.
    """
    folders = {
        "": None,
        "synthetic": plan.synthetic,
        "duplicates": path_in(out, "duplicates"),
        "dcgan": out / "dcgan",
        **plan.folders,
    }
    return [
        Job(
            arm=arm.name,
            seed=seed,
            folder=path_in(out / "runs", arm.name) / f"seed-{seed}",
            dataset=plan.dataset,
            recipe=plan.recipe(arm, seed),
            synthetic=folders[arm.synthetic],
        )
        for seed in (range(plan.seeds) if seeds is None else seeds)
        for arm in plan.arms
    ]


def train_runs(jobs: Sequence[Job]) -> None:
    """Do the runs that are not done; wait for runs that another process works on.

    Raises:
        RecipeError: a run cannot be trained; the message names its arm. Finished runs stay.
        Interrupted: a signal asked to stop; the current run has saved its state.
    """
    left = [job for job in jobs if not job.outcome.exists()]
    if not left:
        return
    kept = len(jobs) - len(left)
    print(f"{len(left)} runs to do" + (f", {kept} are finished" if kept else ""), file=sys.stderr, flush=True)
    context = _context()
    _try_out(left, context)
    epochs = sum(job.recipe.train.epochs for job in left)
    for _ in track(_epochs(left, context), total=epochs, what=f"{len(left)} runs, epoch"):
        pass


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, *plugin.LOADED])
    return context


def _epochs(left: list[Job], context: Any) -> Iterator[None]:
    """Yield once for every epoch, of this or another process."""
    shown = dict.fromkeys((job.folder for job in left), 0)

    def new_epochs(job: Job) -> Iterator[None]:
        done = job.recipe.train.epochs if job.outcome.exists() else _validated(job)
        for _ in range(done - shown[job.folder]):
            yield
        shown[job.folder] = max(done, shown[job.folder])

    while left:
        for job in left:
            if job.outcome.exists() or not _free(job):
                continue
            process, receiver = _start(context, work, job)
            due = 0.0
            try:
                while process.is_alive():
                    yield from new_epochs(job)
                    if time.monotonic() >= due:  # other processes may work on the other runs
                        for other in left:
                            yield from new_epochs(other)
                        due = time.monotonic() + ROUND
                    process.join(PATIENCE)
            except BaseException:
                _stop(process)
                raise
            _raise_error(process.exitcode or 0, receiver, f"{job.arm}, seed {job.seed}")
        for job in left:
            yield from new_epochs(job)
        left = [job for job in left if not job.outcome.exists()]
        if left and not any(_free(job) for job in left):
            time.sleep(5 * PATIENCE)  # other processes work on all runs that are left


def _try_out(left: list[Job], context: Any) -> None:
    """Refuse an arm that cannot be built before the others are trained for hours."""
    new = {job.arm: job for job in left if not any(job.folder.parent.glob("seed-*"))}
    if new:
        run_apart(try_out, list(new.values()), "the trial of the arms", context)


def run_apart(target: Callable[..., None], argument: Any, where: str, context: Any = None) -> None:
    """Call a function that needs torch in its own process, and wait for it.

    Args:
        target: called with `argument` and a connection to which it sends the message of a user's error.
        argument: of the function.
        where: name of the work, for messages.
        context: of the process.

    Raises:
        RecipeError: the work cannot be done; the message says why.
        Interrupted: a signal asked the process to stop.
    """
    process, receiver = _start(context or _context(), target, argument)
    try:
        process.join()
    except BaseException:
        _stop(process)
        raise
    _raise_error(process.exitcode or 0, receiver, where)


def _start(context: Any, target: Callable[..., None], argument: Any) -> tuple[BaseProcess, Any]:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(argument, sender))
    process.start()
    sender.close()
    return process, receiver


def _raise_error(code: int, receiver: Any, where: str) -> None:
    """Raise the error of a process that failed."""
    if code in (0, BUSY):
        return
    try:
        message = receiver.recv()
    except EOFError:  # it ended without a message
        message = ""
    if code == 2:
        raise RecipeError(message)
    if code > 128 or code < 0:
        number = code - 128 if code > 128 else -code
        raise Interrupted(number, f"{where} was stopped; the same command continues.")
    raise RuntimeError(f"{where}: {message or f'ended with {code}'}")


def _stop(process: BaseProcess) -> None:
    """Let the run save its state; a second signal kills it."""
    process.terminate()
    try:
        process.join()
    except BaseException:
        process.kill()
        raise


def _free(job: Job) -> bool:
    with held(job.lock) as lock:
        return lock is not None


def _validated(job: Job) -> int:
    """Number of epochs that a run has finished."""
    path = job.folder / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"val/mAP"') if path.exists() else 0
