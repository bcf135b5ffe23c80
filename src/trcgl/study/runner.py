"""Runs of a study one after the other, each in a process of its own; several commands share the work of one folder.

A run belongs to the process that holds its lock, and is done when its outcome is there. Whatever ends a process, the
next command finds every run finished, resumable or untouched.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from trcgl.core.errors import Interrupted, RecipeError
from trcgl.core.progress import track
from trcgl.study.plan import Plan
from trcgl.study.worker import BUSY, Job, held, try_out, work

COPIES = "copies"
"""Folder of the copied real images, within the study."""
DCGAN = "dcgan"
"""Folder of the images that the DCGAN draws, within the study."""
PATIENCE = 0.2
"""Seconds between two looks at the run at work."""
ROUND = 10.0
"""Seconds between two looks at all runs."""
PRELOAD = ("trcgl.training.train", "trcgl.evaluate.evaluate", "trcgl.study.worker")


def jobs_of(plan: Plan, out: Path, seeds: Sequence[int] | None = None) -> list[Job]:
    """The runs of a plan, seed by seed, so that a study that is cut short has all arms on equally many seeds.

    Args:
        plan: of the study.
        out: the study folder.
        seeds: other ones than those that the plan compares.
    """
    made = {"copies": out / COPIES, "dcgan": out / DCGAN}
    return [
        Job(
            arm=arm.name,
            seed=seed,
            folder=out / "runs" / arm.name / f"seed-{seed}",
            dataset=plan.dataset,
            recipe=plan.recipe(arm, seed),
            synthetic={"": None, "drawn": plan.synthetic, **made, **plan.folders}[arm.drawn],
        )
        for seed in (range(plan.seeds) if seeds is None else seeds)
        for arm in plan.arms
    ]


def carry_out(jobs: Sequence[Job]) -> None:
    """Do the runs that are not done; those that another process is at are waited for.

    Raises:
        RecipeError: a run cannot be made; the message names its arm. What is finished stays.
        Interrupted: a signal asked to stop; the run at work has saved its state.
    """
    left = [one for one in jobs if not one.outcome.exists()]
    if not left:
        return
    kept = len(jobs) - len(left)
    print(f"{len(left)} runs to do" + (f", {kept} are finished" if kept else ""), file=sys.stderr, flush=True)
    context = _context()
    _try_out(left, context)
    epochs = sum(one.recipe.train.epochs for one in left)
    for _ in track(_epochs(left, context), total=epochs, what=f"{len(left)} runs, epoch"):
        pass


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    return context


def _epochs(left: list[Job], context: Any) -> Iterator[None]:
    """Yield once for every epoch, of whatever process makes it."""
    shown = dict.fromkeys((job.folder for job in left), 0)

    def news(job: Job) -> Iterator[None]:
        done = job.recipe.train.epochs if job.outcome.exists() else _validated(job)
        for _ in range(done - shown[job.folder]):
            yield
        shown[job.folder] = max(done, shown[job.folder])

    while left:
        for job in left:
            if job.outcome.exists() or not _free(job):
                continue
            process, hear = _start(context, work, job)
            due = 0.0
            try:
                while process.is_alive():
                    yield from news(job)
                    if time.monotonic() >= due:  # other processes may be at the others
                        for one in left:
                            yield from news(one)
                        due = time.monotonic() + ROUND
                    process.join(PATIENCE)
            except BaseException:
                _stop(process)
                raise
            _judge(process.exitcode or 0, hear, f"{job.arm}, seed {job.seed}")
        for job in left:
            yield from news(job)
        left = [job for job in left if not job.outcome.exists()]
        if left and not any(_free(job) for job in left):
            time.sleep(5 * PATIENCE)  # all that is left is in the hands of others


def _try_out(left: list[Job], context: Any) -> None:
    """Refuse an arm that cannot be built before the others are trained for hours."""
    new = {job.arm: job for job in left if not any(job.folder.parent.glob("seed-*"))}
    if not new:
        return
    apart(try_out, list(new.values()), "the trial of the arms", context)


def apart(target: Callable[..., None], what: Any, where: str, context: Any = None) -> None:
    """Do work that needs torch in a process of its own, and wait for it.

    Args:
        target: called with `what` and a connection that takes the message of an error that the user can put right.
        what: the work.
        where: its name, for messages.
        context: of the process.

    Raises:
        RecipeError: the work cannot be done; the message says why.
        Interrupted: a signal asked it to stop.
    """
    process, hear = _start(context or _context(), target, what)
    try:
        process.join()
    except BaseException:
        _stop(process)
        raise
    _judge(process.exitcode or 0, hear, where)


def _start(context: Any, target: Callable[..., None], what: Any) -> tuple[BaseProcess, Any]:
    hear, say = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(what, say))
    process.start()
    say.close()
    return process, hear


def _judge(code: int, hear: Any, where: str) -> None:
    """Raise what a process that ended badly has to say."""
    if code in (0, BUSY):
        return
    try:
        said = hear.recv()
    except EOFError:  # it ended without a word
        said = ""
    if code == 2:
        raise RecipeError(said)
    if code > 128 or code < 0:
        number = code - 128 if code > 128 else -code
        raise Interrupted(number, f"{where} was stopped; the same command goes on.")
    raise RuntimeError(f"{where}: {said or f'ended with {code}'}")


def _stop(process: BaseProcess) -> None:
    """Let the run save its state; a second signal does not wait for that."""
    process.terminate()
    try:
        process.join()
    except BaseException:
        process.kill()
        raise


def _free(job: Job) -> bool:
    with held(job.lock) as mine:
        return mine is not None


def _validated(job: Job) -> int:
    """Epochs that a run has made."""
    path = job.folder / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"val/mAP"') if path.exists() else 0
