"""Tests, in the arms of an ablation, of the two reasons that TRCGL-Net gives for failures on rare findings.

First, small lesions are lost in global features, which channel reweighting and class-aware attention should prevent: AP
by thirds of the area and contrast of the lesions. Second, rare findings are predicted from the head findings they
occur with, which the label graph should handle: AP with and without that partner, and the effect of the partner alone
on the score.

All of it is exploratory: plain 95 % intervals, not adjusted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.core.recipe import overridden
from trcgl.dataset.store import Dataset
from trcgl.evaluate.predictions import Predictions, read_predictions
from trcgl.metrics.intervals import LEVEL
from trcgl.study.ablation import MODULES
from trcgl.study.ablation import PARTS as MODULE_NAMES
from trcgl.study.experiments.counterfactuals import Scoring, lesions, render_flipped, score_counterfactuals
from trcgl.study.experiments.strata import (
    PARTS,
    Measured,
    Partner,
    Rows,
    Shift,
    Stratum,
    by_lesion,
    by_partner,
    counterfactual,
    measure,
    usual_partners,
)
from trcgl.study.plan import Contrast, Plan
from trcgl.study.results import Outcome, ends
from trcgl.study.runner import run_apart
from trcgl.study.statistics import Runs, difference, mean, over_seeds
from trcgl.study.stored import read_stored, translate
from trcgl.study.worker import Job

SCHEMA = "trcgl.study-causes/1"
LESION, COMPANY = ("area", "contrast"), ("partner", "counterfactual")
"""Kinds of strata that test the first cause and the second."""
TESTS = {"reweighting": LESION, "attention": LESION, "graph": COMPANY}
"""Module to the kinds of strata in which it should help."""


Sample = tuple[Runs, float]
"""Runs of an arm, and the degrees of freedom that patients leave."""


@dataclass(frozen=True)
class Question:
    """A difference of two arms by stratum.

    Args:
        contrast: the arms.
        kinds: of strata.
    """

    contrast: Contrast
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Knowledge:
    """Knowledge about the test images beside their labels, in the order of the predictions.

    Args:
        lesion: area and contrast, finding to a value for every image, NaN where unknown; or the reason why they are
            unknown.
        partners: finding to its usual partner, or the reason why it has none.
        flipped: partner to the file of images in which it is flipped, or the reason why there is no file.
    """

    lesion: Mapping[str, Mapping[str, Rows] | str]
    partners: Mapping[str, Partner | str]
    flipped: Mapping[str, Path | str]


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
    """Measure the finished runs of the arms in question and compare them.

    Args:
        plan: of the ablation.
        opened: its dataset.
        outcomes: of its runs.
        out: the study folder, which keeps the counterfactual phantoms and the metrics.

    Returns:
        The part `causes` of the table (schema `trcgl.study-table/1`).
    """
    asked = questions(plan)
    names = [arm.name for arm in plan.arms if any(arm.name in (q.contrast.arm, q.contrast.against) for q in asked)]
    jobs = {name: [run.job for run in outcomes if run.finished and run.job.arm == name] for name in names}
    knowledge = _knowledge(plan, opened, out)
    todo = [job for of_arm in jobs.values() for job in of_arm if not _measured(job)]
    _score(todo, knowledge, opened)
    for job in track(todo, what="strata, run"):
        _measure(job, knowledge, opened)
    measured = {name: [read_stored(_metrics_file(job)) for job in of_arm] for name, of_arm in jobs.items()}
    document: dict[str, Any] = {
        "level": LEVEL,
        "partners": {
            finding: {"why": partner} if isinstance(partner, str) else asdict(partner)
            for finding, partner in knowledge.partners.items()
        },
        "kinds": next((run["kinds"] for of_arm in measured.values() for run in of_arm), {}),
    }
    samples = {name: _samples(jobs[name], measured[name]) for name in names}
    document["arms"] = {name: _arm(measured[name], samples[name]) for name in names}
    document["contrasts"] = [
        asdict(question.contrast) | {"key": key} | _difference(samples, question.contrast, key)
        for question in asked
        for key in dict.fromkeys(key for of_arm in samples.values() for key in of_arm)
        if key.split("/")[0] in question.kinds
    ]
    return document


def strata(
    predictions: Predictions, knowledge: Knowledge, flipped: Mapping[str, np.ndarray]
) -> tuple[list[Stratum], list[Shift], dict[str, dict[str, Any]]]:
    """The strata of one run's test predictions.

    Args:
        predictions: of the run.
        knowledge: about its images.
        flipped: partner to the scores (rows, findings) of the images in which it is flipped.

    Returns:
        Strata, shifts, and for every kind the positives of each finding by part and why findings were left out.
    """
    space, weight = predictions.space, predictions.weight
    made: list[Stratum] = []
    shifts: list[Shift] = []
    left: dict[str, dict[str, str]] = {kind: {} for kind in PARTS}
    for finding in space.in_group("tail"):
        column = space.index(finding)
        truth = predictions.truth[:, column].astype(np.float64)
        score = predictions.score[:, column].astype(np.float64)
        if not ((truth == 1).any() and (truth == 0).any()):
            for kind in PARTS:
                left[kind][finding] = "no positive or no negative in test"
            continue
        for kind in LESION:
            known = knowledge.lesion[kind]
            cut = known if isinstance(known, str) else by_lesion(kind, finding, truth, score, weight, known[finding])
            if isinstance(cut, str):
                left[kind][finding] = cut
            else:
                made += cut
        partner = knowledge.partners[finding]
        if isinstance(partner, str):
            left["partner"][finding] = left["counterfactual"][finding] = partner
            continue
        head = predictions.truth[:, space.index(partner.finding)]
        observed = by_partner(finding, truth, score, weight, head)
        if isinstance(observed, str):
            left["partner"][finding] = observed
        else:
            made += observed[0]
            shifts.append(observed[1])
        images = knowledge.flipped[partner.finding]
        if isinstance(images, str):
            left["counterfactual"][finding] = images
        else:
            both = counterfactual(finding, truth, score, weight, head, flipped[partner.finding][:, column])
            if isinstance(both, str):
                left["counterfactual"][finding] = both
            else:
                made += both[0]
                shifts.append(both[1])
    kinds: dict[str, dict[str, Any]] = {kind: {"positives": {}, "left_out": left[kind]} for kind in PARTS}
    for stratum in made:
        kinds[stratum.kind]["positives"].setdefault(stratum.finding, {})[stratum.part] = stratum.positives
    return made, shifts, kinds


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
    for partner in partners.values():
        if isinstance(partner, Partner) and partner.finding not in flipped:
            try:
                flipped[partner.finding] = render_flipped(opened, rows, partner.finding, out)
            except DataError as error:
                flipped[partner.finding] = str(error)
    return Knowledge(lesion, partners, flipped)


def _values(rows: pl.DataFrame, table: pl.DataFrame, finding: str, kind: str) -> Rows:
    own = table.filter(pl.col("finding") == finding).select("image_id", kind)
    joined = rows.select("image_id").join(own, on="image_id", how="left", maintain_order="left")
    return joined[kind].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _score(todo: Sequence[Job], knowledge: Knowledge, opened: Dataset) -> None:
    """Let the models of these runs score the counterfactual images."""
    tasks = [
        Scoring(job, images, _scores(job, partner, opened))
        for job in todo
        for partner, images in knowledge.flipped.items()
        if isinstance(images, Path) and not _scores(job, partner, opened).exists()
    ]
    if tasks:
        run_apart(score_counterfactuals, tasks, "scoring counterfactual phantoms")


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
    _write(job, found, kinds)


def _write(job: Job, found: Measured, kinds: dict[str, dict[str, Any]]) -> None:
    with storage.atomic(_replicates_file(job)) as aside, open(aside, "wb") as handle:
        arrays = {key.replace("/", "."): array for key, array in found.replicates.items()}
        np.savez(handle, allow_pickle=False, **arrays)
    metrics = {"values": found.values, "findings": found.findings, "freedom": found.freedom, "kinds": kinds}
    storage.write_json(_metrics_file(job), {"schema": SCHEMA, **metrics})


def _measured(job: Job) -> bool:
    return _metrics_file(job).exists() and storage.read_json(_metrics_file(job))["schema"] == SCHEMA


def _metrics_file(job: Job) -> Path:
    return job.folder.with_name(f"causes-{job.seed}.json")


def _replicates_file(job: Job) -> Path:
    return job.folder.with_name(f"causes-{job.seed}.npz")


def _scores(job: Job, partner: str, opened: Dataset) -> Path:
    return job.folder / "predictions" / f"test-flipped-{opened.space.index(partner)}.npy"


def _samples(jobs: Sequence[Job], measured: Sequence[dict[str, Any]]) -> dict[str, Sample]:
    """Key of a stratum to the runs of an arm."""
    replicates: dict[str, list[np.ndarray]] = {}
    for job in jobs:
        with np.load(_replicates_file(job), allow_pickle=False) as stored:
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


def _arm(measured: Sequence[dict[str, Any]], samples: dict[str, Sample]) -> dict[str, Any]:
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


def _difference(samples: Mapping[str, dict[str, Sample]], contrast: Contrast, key: str) -> dict[str, Any]:
    arm, against = samples[contrast.arm].get(key), samples[contrast.against].get(key)
    estimate = difference(arm[0], against[0], min(arm[1], against[1])) if arm and against else None
    if estimate is None:
        return {"value": None, "interval": None, "why": "no seed that both arms finished"}
    interval = ends(estimate.interval())
    found: dict[str, Any] = {"value": estimate.value, "interval": interval, "seeds": len(estimate.seeds)}
    return found | ({"detectable": estimate.detectable()} if interval else {"why": estimate.why})
