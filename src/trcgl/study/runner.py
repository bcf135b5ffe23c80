"""Train the runs of a study one after the other, each in its own process; several commands can share one folder.

A run belongs to the process that holds its lock, and is done when its outcome file exists. Whatever ends a process, the
next command finds every run finished, resumable or untouched.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from trcgl.core import plugin
from trcgl.core.errors import Interrupted, RecipeError
from trcgl.core.progress import track
from trcgl.study.plan import Plan
from trcgl.study.stored import path_in
from trcgl.study.worker import BUSY, Job, held, try_out, work

PATIENCE = 1.0
"""Seconds between two looks at the runs."""
PRELOAD = ("trcgl.training.train", "trcgl.evaluate.evaluate", "trcgl.study.worker")


def jobs_of(plan: Plan, out: Path, seeds: Sequence[int] | None = None) -> list[Job]:
    """The runs of a plan, seed by seed, so that a study that is cut short has equally many seeds for all arms.

    `seeds` replaces the seeds that the plan compares.
    """
    made = {"duplicates": path_in(out, "duplicates"), "dcgan": out / "dcgan"}
    folders = {"": None, "synthetic": plan.synthetic, **made, **plan.folders}
    return [
        Job(
            arm=arm.name,
            seed=seed,
            folder=path_in(out / "runs", arm.name) / f"seed-{seed}",
            dataset=plan.dataset,
            recipe=arm.recipe(plan.base, seed),
            synthetic=folders[arm.synthetic],
        )
        for seed in (range(plan.seeds) if seeds is None else seeds)
        for arm in plan.arms
    ]


def train_runs(jobs: Sequence[Job], tried: Collection[str] = ()) -> None:
    """Do the runs that are not done; wait for runs that another process works on.

    `tried`: arms whose networks have been built by `try_arms`.

    Raises:
        RecipeError: a run cannot be trained; the message names its arm. Finished runs stay.
        Interrupted: a signal asked to stop; the current run has saved its state.
    """
    left = [job for job in jobs if not job.outcome.exists()]
    if not left:
        return
    kept = len(jobs) - len(left)
    print(f"{len(left)} runs to do" + (f", {kept} are finished" if kept else ""), file=sys.stderr, flush=True)
    # Refuse an arm that cannot be built before the others are trained for hours.
    if new := {job.arm: job for job in left if job.arm not in tried and not any(job.folder.parent.glob("seed-*"))}:
        run_apart(try_out, list(new.values()), "the trial of the arms")
    epochs = sum(job.recipe.train.epochs for job in left)
    for _ in track(_epochs(left), total=epochs, what=f"{len(left)} runs, epoch"):
        pass


def try_arms(jobs: Sequence[Job]) -> set[str]:
    """Build the network of every arm, before its study has a folder; return the arms that need no further trial.

    Raises:
        RecipeError: an arm cannot be built, or its initial weights cannot be loaded; the message names it.
    """
    first = list({job.arm: job for job in reversed(jobs)}.values())[::-1]
    run_apart(try_out, first, "the trial of the arms")
    return {job.arm for job in first if job.synthetic is None or job.synthetic.exists()}


def run_apart(target: Callable[..., None], argument: Any, where: str) -> None:
    """Call a function that needs torch in its own process, and wait for it; `where` names the work in messages.

    `target` is called with `argument` and a connection to which it sends the message of a user's error, which is
    raised as a RecipeError.
    """
    for _ in _apart(target, argument, where):
        pass


def _epochs(jobs: Sequence[Job]) -> Iterator[None]:
    """Do the runs; yield once for every epoch, of this or another process."""
    shown = 0

    def new_epochs() -> Iterator[None]:
        nonlocal shown
        done = sum(map(_done, jobs))
        yield from [None] * (done - shown)
        shown = max(done, shown)

    left = list(jobs)
    while left:
        for job in left:
            if not job.outcome.exists() and _free(job):
                with closing(_apart(work, job, f"{job.arm}, seed {job.seed}")) as looks:
                    for _ in looks:
                        yield from new_epochs()
        yield from new_epochs()
        left = [job for job in left if not job.outcome.exists()]
        if left and not any(map(_free, left)):
            time.sleep(PATIENCE)  # other processes work on all runs that are left


def _apart(target: Callable[..., None], argument: Any, where: str) -> Generator[None, None, None]:
    """Call a function in its own process; yield each time it is checked, and raise the error of a failed process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, *plugin.LOADED])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(argument, sender))
    process.start()
    sender.close()
    try:
        while process.is_alive():
            yield
            process.join(PATIENCE)
    except BaseException:
        process.terminate()  # the run saves its state; a second signal kills it
        try:
            process.join()
        except BaseException:
            process.kill()
            raise
        raise
    code = process.exitcode or 0
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


def _free(job: Job) -> bool:
    with held(job.lock) as lock:
        return lock is not None


def _done(job: Job) -> int:
    """Number of epochs that a run has finished."""
    if job.outcome.exists():
        return job.recipe.train.epochs
    path = job.folder / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"val/mAP"') if path.exists() else 0
