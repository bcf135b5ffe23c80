"""One run of a study, in a process of its own: train, fit on val, score test, and put down what the table needs.

A process for each run keeps the memory of a long study flat, makes the peak memory of each arm its own, and leaves the
study alive when one run is killed. They start from a server that has imported torch once, so that none waits for that.
"""

import fcntl
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

import numpy as np

from trcgl.core import storage
from trcgl.core.errors import Diverged, Interrupted, TrcglError
from trcgl.core.recipe import Recipe
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics.intervals import freedom_of_mean
from trcgl.metrics.registry import METRICS

SCHEMA = "trcgl.study-run/1"
BUSY = 75
"""Exit code of a process that finds its run in the hands of another."""


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        arm: its name.
        seed: its number within the study.
        folder: of the run; what belongs to it lies beside it.
        dataset: folder of the real radiographs.
        recipe: of the run.
        synthetic: folder of the drawn radiographs that take part, or None.
    """

    arm: str
    seed: int
    folder: Path
    dataset: Path
    recipe: Recipe
    synthetic: Path | None

    @property
    def outcome(self) -> Path:
        """What came out: written last, so that it says that the run is done."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def replicates(self) -> Path:
        """Mean AP of each group on every draw of patients."""
        return self.folder.with_name(f"{self.folder.name}.npz")

    @property
    def log(self) -> Path:
        """What training said."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run; the system lets go of it however that process ends."""
        return self.folder.with_name(f"{self.folder.name}.lock")


@contextmanager
def held(path: Path) -> Iterator[IO[str] | None]:
    """Hold a lock file; None where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield handle


def work(job: Job, say: Connection) -> None:
    """Do a run unless another process is at it. `say` takes the message of an error that the user can put right."""
    os.setpgid(0, 0)  # Ctrl-C is for the study, which then asks this process to stop once, not twice
    stop_when_orphaned()
    with held(job.lock) as mine:
        if mine is None:
            sys.exit(BUSY)
        if job.outcome.exists():
            return
        with open(job.log, "a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            try:
                storage.write_json(job.outcome, _finish(job))
            except Diverged as error:
                storage.write_json(job.outcome, {"schema": SCHEMA, "status": "diverged", "why": str(error)})
            except TrcglError as error:
                say.send(f"{job.arm}, seed {job.seed}: {error}")
                sys.exit(2)
            except Interrupted as stopped:
                sys.exit(128 + stopped.signal)
            except Exception:
                traceback.print_exc()
                say.send(traceback.format_exc())
                sys.exit(1)


def try_out(jobs: Sequence[Job], say: Connection) -> None:
    """Show two empty images to the network of every run, so that what cannot be built is known before any training."""
    import torch

    from trcgl.model.trcgl_net import build_network
    from trcgl.training.train import check, synthetic_rows

    for job in jobs:
        opened = open_dataset(job.dataset)
        findings = len(opened.space.findings)
        side = job.recipe.model.image_size
        try:
            check(job.recipe)
            if job.synthetic:
                synthetic_rows(job.synthetic, opened, job.recipe)
            network = build_network(job.recipe.model, findings, torch.eye(findings), load_weights=False).eval()
            with torch.no_grad():
                network(torch.zeros(2, 1, side, side))
        except TrcglError as error:
            say.send(f"{job.arm}: {error}")
            sys.exit(2)
        except (RuntimeError, ValueError, AssertionError) as error:  # a map that shrinks to nothing, a window too large
            say.send(f"{job.arm}: the network cannot be made for images of {side} pixels ({error}). Leave it out.")
            sys.exit(2)


def _finish(job: Job) -> dict[str, Any]:
    from trcgl.evaluate.evaluate import calibrate, own_split, score
    from trcgl.model.run_folder import open_run
    from trcgl.training.train import train

    info = train(job.dataset, job.recipe, job.folder, job.synthetic)
    run = open_run(job.folder)
    calibration = calibrate(run)
    predictions = score(run, own_split(run, "test"), calibration)
    told, drawn = measure(predictions, calibration.thresholds, job.recipe)
    with storage.atomic(job.replicates) as aside, open(aside, "wb") as handle:
        np.savez(handle, allow_pickle=False, **drawn)
    gates = run.model.network.head.gates()
    return {"schema": SCHEMA, "status": "finished", "best": info["best"], "cost": info["cost"], "gates": gates} | told


def measure(
    predictions: Predictions, thresholds: dict[str, float], recipe: Recipe
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the table needs of one run's test predictions.

    Returns:
        Means of AP by group, of AUROC, F1 and calibration error over all, each finding's AP and AUROC, and the degrees
        of freedom that patients leave to the mean of each group; and the mean AP of each group on every draw of
        patients (replicates,).
    """
    space, settings = predictions.space, recipe.evaluate
    measured = predictions.measure(thresholds, replicates=settings.replicates, seed=settings.bootstrap_seed)
    table = {name: measured.values(name) for name in measured.metrics}
    told: dict[str, Any] = {"metrics": {}, "freedom": {}, "findings": {}}
    replicates = {}
    for group, columns in _groups(space, table["AP"]).items():
        drawn = measured.replicates["AP"][:, columns]
        told["metrics"][f"mAP_{group}"] = float(table["AP"][columns].mean()) if columns else None
        told["freedom"][group] = freedom_of_mean(drawn, measured.freedom["AP"][columns])
        replicates[group] = drawn.mean(axis=1) if columns else np.full(len(drawn), np.nan)
    scored = [space.index(one) for one in space.scored]
    for name in METRICS.keys() - {"AP"}:
        defined = table[name][scored][~np.isnan(table[name][scored])]
        told["metrics"][f"m{name}"] = float(defined.mean()) if len(defined) else None
    for column, finding in enumerate(space.findings):
        values = {name: float(table[name][column]) for name in ("AP", "AUC")}
        told["findings"][finding] = {name: None if np.isnan(one) else one for name, one in values.items()}
    return told, replicates


def _groups(space: LabelSpace, precision: np.ndarray) -> dict[str, list[int]]:
    """Columns of each group that have a positive."""
    members = {"overall": space.scored} | {group: space.in_group(group) for group in GROUPS}
    columns = {group: [space.index(one) for one in findings] for group, findings in members.items()}
    return {group: [one for one in of if not np.isnan(precision[one])] for group, of in columns.items()}


def stop_when_orphaned() -> None:
    """Ask this process to stop and save, as SIGTERM does, when the study that started it is gone."""
    study = parent_process()
    if study is None:
        return

    def watch() -> None:
        wait([study.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
