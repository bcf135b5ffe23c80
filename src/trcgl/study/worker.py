"""One run of a study in its own process: train, fit on val, score test, write the outcome.

A process for each run keeps the memory of a long study flat, measures the peak memory of each arm, and leaves the study
alive when a run is killed. The processes are forked from a server that has imported torch once.
"""

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
from trcgl.core.lock import try_lock
from trcgl.core.recipe import Recipe
from trcgl.dataset.labels import GROUPS
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.evaluation import subset_rows
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics import summary
from trcgl.metrics.intervals import freedom_of_mean
from trcgl.metrics.registry import METRICS

SCHEMA = "trcgl.study-run/1"
BUSY = 75
"""Exit code of a process whose run is locked by another."""


@dataclass(frozen=True)
class Job:
    """One run."""

    arm: str
    seed: int  # number within the study
    folder: Path  # of the run; its other files lie beside it
    dataset: Path
    recipe: Recipe
    synthetic: Path | None  # synthetic folder that it trains with

    @property
    def outcome(self) -> Path:
        """The outcome file: written last, so a run that has one is done."""
        return self.folder.with_suffix(".json")

    @property
    def replicates(self) -> Path:
        """File of the mean AP of each group on every resample of patients."""
        return self.folder.with_suffix(".npz")

    @property
    def lock(self) -> Path:
        """Lock of the process that works on the run; the system releases it however that process ends."""
        return self.folder.with_suffix(".lock")


@contextmanager
def held(path: Path) -> Iterator[IO[str] | None]:
    """Hold a lock file; yields None if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as handle:
        yield handle if try_lock(handle.fileno()) else None


def work(job: Job, sender: Connection) -> None:
    """Do a run unless another process works on it; send the message of an error to the study."""
    os.setpgid(0, 0)  # Ctrl-C reaches the study only, which then asks this process to stop once, not twice
    stop_when_orphaned()
    with held(job.lock) as lock:
        if lock is None:
            sys.exit(BUSY)
        if job.outcome.exists():
            return
        output = job.folder.with_suffix(".log")
        with open(output, "a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            try:
                storage.write_json(job.outcome, _finish(job))
            except Diverged as error:
                storage.write_json(job.outcome, {"schema": SCHEMA, "status": "diverged", "why": str(error)})
            except TrcglError as error:
                sender.send(f"{job.arm}, seed {job.seed}: {error}")
                sys.exit(2)
            except Interrupted as stopped:
                sys.exit(128 + stopped.signal)
            except Exception:
                traceback.print_exc()
                sender.send(traceback.format_exc())
                sys.exit(1)


def try_out(jobs: Sequence[Job], sender: Connection) -> None:
    """Build the network of every run and apply it to two empty images, so that errors are found before any training."""
    import torch

    from trcgl.model.label_text import finding_vectors
    from trcgl.model.trcgl_net import TrcglNet
    from trcgl.training.check_recipe import check
    from trcgl.training.train import synthetic_rows

    loaded: set[tuple[str | None, ...]] = set()  # what was downloaded or read for another arm
    for job in jobs:
        opened = open_dataset(job.dataset)
        findings = len(opened.space.findings)
        side = job.recipe.model.image_size
        try:
            check(job.recipe)
            if job.synthetic and job.synthetic.exists():  # other folders are written once the study has begun
                synthetic_rows(job.synthetic, opened, job.recipe)
            model = job.recipe.model
            start = (model.backbone, model.weights, model.label_text)
            if model.label_text is not None and start not in loaded:
                finding_vectors(model.label_text, opened.space.findings)
            network = TrcglNet(model, findings, torch.eye(findings), load_weights=start not in loaded).eval()
            loaded.add(start)
            with torch.no_grad():
                network(torch.zeros(2, 1, side, side))
        except TrcglError as error:
            sender.send(f"{job.arm}: {error}")
            sys.exit(2)
        except (RuntimeError, ValueError, AssertionError) as error:  # an empty feature map, a window that is too large
            sender.send(f"{job.arm}: the network cannot be built for images of {side} pixels ({error}). Leave it out.")
            sys.exit(2)


def _finish(job: Job) -> dict[str, Any]:
    from trcgl.evaluate.evaluate import score_run
    from trcgl.model.run_folder import open_run
    from trcgl.training.train import train

    info = train(job.dataset, job.recipe, job.folder, job.synthetic)
    run = open_run(job.folder)
    scored = score_run(run)
    found, replicates = measure(scored.predictions["test"], scored.calibration.thresholds, job.recipe)
    with storage.atomic(job.replicates) as aside, open(aside, "wb") as handle:
        np.savez(handle, allow_pickle=False, **replicates)
    gates = run.model.network.head.gates()
    return {"schema": SCHEMA, "status": "finished", "best": info["best"], "cost": info["cost"], "gates": gates} | found


def measure(
    predictions: Predictions, thresholds: dict[str, float], recipe: Recipe
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metrics of one run on test, and for each group the mean AP on every resample of patients.

    `freedom` is ν of the mean AP of each group, from `freedom_of_mean`.
    """
    space, settings = predictions.space, recipe.evaluate
    cuts = [thresholds[finding] for finding in space.findings]
    measured = summary.measure(*predictions.arrays, cuts, replicates=settings.replicates, seed=settings.bootstrap_seed)
    table = {name: measured.values(name) for name in measured.metrics}
    found: dict[str, Any] = {"metrics": {}, "freedom": {}, "findings": {}}
    replicates = {}
    members = {"overall": space.scored} | {group: space.in_group(group) for group in GROUPS}
    for group, findings in members.items():
        columns = [space.index(finding) for finding in findings if not np.isnan(table["AP"][space.index(finding)])]
        resampled = measured.replicates["AP"][:, columns]
        found["metrics"][f"mAP_{group}"] = float(table["AP"][columns].mean()) if columns else None
        found["freedom"][group] = freedom_of_mean(resampled, measured.freedom["AP"][columns])
        replicates[group] = resampled.mean(axis=1) if columns else np.full(len(resampled), np.nan)
    scored = [space.index(finding) for finding in space.scored]
    for name in METRICS:
        if name != "AP":
            defined = table[name][scored][~np.isnan(table[name][scored])]
            found["metrics"][f"m{name}"] = float(defined.mean()) if len(defined) else None
    for column, finding in enumerate(space.findings):
        values = {name: float(table[name][column]) for name in ("AP", "AUC")}
        found["findings"][finding] = {name: None if np.isnan(value) else value for name, value in values.items()}
    found["subsets"] = {name: _means(predictions.select(rows)) for name, rows in subset_rows(predictions)}
    return found, replicates


def _means(predictions: Predictions) -> dict[str, float | None]:
    """Mean AP and AUC of the findings that have both classes among some images, without intervals."""
    truth, score, found = predictions.truth.astype(np.float64), predictions.score.astype(np.float64), {}
    scored = [predictions.space.index(finding) for finding in predictions.space.scored]
    for name in ("AP", "AUC"):
        values = [METRICS[name](truth[:, place], score[:, place], predictions.weight, None).value for place in scored]
        defined = [value for value in values if value is not None]
        found[f"m{name}"] = float(np.mean(defined)) if defined else None
    return found


def stop_when_orphaned() -> None:
    """Send SIGTERM to this process, so that it saves and stops, when the study that started it has ended."""
    study = parent_process()
    if study is None:
        return

    def watch() -> None:
        wait([study.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
