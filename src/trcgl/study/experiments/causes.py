"""Tests, in the arms of an ablation, of the two reasons that TRCGL-Net gives for failures on rare findings.

First, small lesions are lost in global features, which channel reweighting and class-aware attention should prevent: AP
by thirds of the area and contrast of the lesions. Second, rare findings are predicted from the head findings they
occur with, which the label graph should handle: AP with and without that partner, and the effect of the partner alone
on the score.

All of it is exploratory: plain 95 % intervals, not adjusted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.core.recipe import overridden
from trcgl.dataset.store import Dataset
from trcgl.evaluate.predictions import read_predictions
from trcgl.metrics.intervals import LEVEL
from trcgl.study.ablation import MODULES
from trcgl.study.ablation import PARTS as MODULE_NAMES
from trcgl.study.experiments.counterfactuals import Scoring, lesions, render_flipped, score_counterfactuals
from trcgl.study.experiments.strata import LESION, PARTS, Knowledge, Partner, Rows, measure, strata, usual_partners
from trcgl.study.plan import Contrast, Plan
from trcgl.study.results import Outcome, Samples, compare, ends
from trcgl.study.runner import run_apart
from trcgl.study.statistics import Runs, mean, over_seeds
from trcgl.study.stored import read_stored, translate
from trcgl.study.worker import Job

SCHEMA = "trcgl.study-causes/1"
TESTS = {"reweighting": LESION, "attention": LESION, "graph": ("partner", "counterfactual")}
"""Module to the kinds of strata in which it should help."""


class Question(NamedTuple):
    """A difference of two arms in some kinds of strata."""

    contrast: Contrast
    kinds: tuple[str, ...]


def questions(plan: Plan) -> tuple[Question, ...]:
    """Full against plain in all strata, and against the arm without each module where that module should help."""
    first = plan.contrasts[0]
    full = next(arm for arm in plan.arms if arm.name == first.arm)
    asked = [Question(Contrast(first.arm, first.against, "the whole"), tuple(PARTS))]
    for module, kinds in TESTS.items():
        off = tuple(name for name in MODULES if name == module or name in plan.base.model.switched_off)
        without = overridden(plan.base, {"model.switched_off": off})
        for arm in plan.arms:
            same = arm.recipe(plan.base, 0) == without and arm.synthetic == full.synthetic
            if off != plan.base.model.switched_off and same:
                asked.append(Question(Contrast(full.name, arm.name, MODULE_NAMES[module]), kinds))
    return tuple(asked)


def causes(plan: Plan, opened: Dataset, outcomes: Sequence[Outcome], out: Path) -> dict[str, Any]:
    """Measure the finished runs of the arms in question and compare them: the part `causes` of the table of a study.

    The study folder `out` keeps the counterfactual phantoms and the metrics.
    """
    asked = questions(plan)
    in_question = {name for question in asked for name in (question.contrast.arm, question.contrast.against)}
    names = [arm.name for arm in plan.arms if arm.name in in_question]
    jobs = {name: [run.job for run in outcomes if run.finished and run.job.arm == name] for name in names}
    knowledge = _knowledge(plan, opened, out)
    todo = [job for of_arm in jobs.values() for job in of_arm if not _measured(job)]
    tasks = [
        Scoring(job, images, _scores(job, partner, opened))
        for job in todo
        for partner, images in knowledge.flipped.items()
        if isinstance(images, Path) and not _scores(job, partner, opened).exists()
    ]
    if tasks:
        run_apart(score_counterfactuals, tasks, "scoring counterfactual phantoms")
    for job in track(todo, what="strata, run"):
        _measure(job, knowledge, opened)
    measured = {name: [read_stored(_file(job, ".json")) for job in of_arm] for name, of_arm in jobs.items()}
    samples = {name: _samples(jobs[name], measured[name]) for name in names}
    keys = dict.fromkeys(key for of_arm in samples.values() for key in of_arm)
    return {
        "level": LEVEL,
        "partners": {
            finding: {"why": partner} if isinstance(partner, str) else asdict(partner)
            for finding, partner in knowledge.partners.items()
        },
        "kinds": next((run["kinds"] for of_arm in measured.values() for run in of_arm), {}),
        "arms": {name: _arm(measured[name], samples[name]) for name in names},
        "contrasts": [
            asdict(question.contrast) | {"key": key} | _difference(samples, question.contrast, key)
            for question in asked
            for key in keys
            if key.split("/")[0] in question.kinds
        ],
    }


def _knowledge(plan: Plan, opened: Dataset, out: Path) -> Knowledge:
    with_none = plan.base.train.with_none
    rows, space = opened.split("test", with_none=with_none), opened.space
    tail = space.in_group("tail")
    lesion: dict[str, Mapping[str, Rows] | str] = {}
    try:
        table = lesions(opened, rows, tail, out)
        for kind in LESION:
            lesion[kind] = {finding: _values(rows, table, finding, kind) for finding in tail}
        if table["contrast"].null_count() == table.height:
            lesion["contrast"] = "the contrast of a lesion is known on phantoms alone"
    except DataError as error:
        lesion = dict.fromkeys(LESION, str(error))
    partners = usual_partners(opened.split("train", with_none=with_none), space)
    flipped: dict[str, Path | str] = {}
    for partner in dict.fromkeys(found.finding for found in partners.values() if isinstance(found, Partner)):
        try:
            flipped[partner] = render_flipped(opened, rows, partner, out)
        except DataError as error:
            flipped[partner] = str(error)
    return Knowledge(lesion, partners, flipped)


def _values(rows: pl.DataFrame, table: pl.DataFrame, finding: str, kind: str) -> Rows:
    own = table.filter(pl.col("finding") == finding).select("image_id", kind)
    joined = rows.select("image_id").join(own, on="image_id", how="left", maintain_order="left")
    return joined[kind].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _measure(job: Job, knowledge: Knowledge, opened: Dataset) -> None:
    predictions = read_predictions(job.folder / "predictions" / "test.parquet", opened.space)
    flipped = {
        partner: np.load(_scores(job, partner, opened), allow_pickle=False)
        for partner, images in knowledge.flipped.items()
        if isinstance(images, Path)
    }
    made, shifts, kinds = strata(predictions, knowledge, flipped)
    _, owner = np.unique(predictions.patient_id.to_numpy(), return_inverse=True)
    settings = job.recipe.evaluate
    found = measure(made, shifts, owner, replicates=settings.replicates, seed=settings.bootstrap_seed)
    with storage.atomic(_file(job, ".npz")) as aside, open(aside, "wb") as handle:
        arrays = {key.replace("/", "."): array for key, array in found.replicates.items()}
        np.savez(handle, allow_pickle=False, **arrays)
    metrics = {"values": found.values, "findings": found.findings, "freedom": found.freedom, "kinds": kinds}
    storage.write_json(_file(job, ".json"), {"schema": SCHEMA, **metrics})


def _measured(job: Job) -> bool:
    return _file(job, ".json").exists() and storage.read_json(_file(job, ".json"))["schema"] == SCHEMA


def _file(job: Job, suffix: str) -> Path:
    return job.folder.with_name(f"causes-{job.seed}{suffix}")


def _scores(job: Job, partner: str, opened: Dataset) -> Path:
    return job.folder / "predictions" / f"test-flipped-{opened.space.index(partner)}.npy"


def _samples(jobs: Sequence[Job], measured: Sequence[dict[str, Any]]) -> dict[str, tuple[Runs, float]]:
    """Key of a stratum to the runs of an arm, and the degrees of freedom that patients leave."""
    replicates: dict[str, list[np.ndarray]] = {}
    for job in jobs:
        with np.load(_file(job, ".npz"), allow_pickle=False) as stored:
            for key in stored.files:
                replicates.setdefault(translate(key).replace(".", "/"), []).append(stored[key])
    seeds = tuple(job.seed for job in jobs)
    return {
        key: (
            Runs(seeds, np.array([run["values"][key] for run in measured]), np.stack(of_key)),
            min(run["freedom"][key] for run in measured),
        )
        for key, of_key in replicates.items()
    }


def _arm(measured: Sequence[dict[str, Any]], samples: Mapping[str, tuple[Runs, float]]) -> dict[str, Any]:
    """Metrics of an arm by stratum, with the intervals of their means."""
    return {
        key: {
            **over_seeds([run["values"][key] for run in measured]),
            "interval": ends(mean(*sample).interval()),
            "findings": {
                finding: float(np.mean([run["findings"][key][finding] for run in measured]))
                for finding in measured[0]["findings"][key]
            },
        }
        for key, sample in samples.items()
    }


def _difference(samples: Samples, contrast: Contrast, key: str) -> dict[str, Any]:
    estimate = compare(samples, contrast, key)
    if estimate is None:
        return {"value": None, "interval": None, "why": "no seed that both arms finished"}
    interval = ends(estimate.interval())
    found: dict[str, Any] = {"value": estimate.value, "interval": interval, "seeds": len(estimate.seeds)}
    return found | ({"detectable": estimate.detectable()} if interval else {"why": estimate.why})
