"""The two causes that TRCGL-Net gives for failing on rare findings, put to the test in the arms of an ablation.

That small lesions are drowned by global features, which channel reweighting and class-aware attention should mend: AP
by thirds of the lesions' area and contrast. That rare findings are predicted from the head findings they come with,
which the label graph should handle: AP with and without that partner, and what the partner alone does to the score.

All of it is exploratory: plain 95 % intervals, adjusted for nothing.
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
from trcgl.study.ablation import IN_WORDS, MODULES
from trcgl.study.counterfactual_phantoms import Scoring, lesions, render_flipped, score_counterfactuals
from trcgl.study.experiments.strata import (
    PARTS,
    Measured,
    Partner,
    Rows,
    Shift,
    Stratum,
    by_lesion,
    by_partner,
    measure,
    redrawn,
    usual_partners,
)
from trcgl.study.plan import Contrast, Plan
from trcgl.study.results import Outcome, ends
from trcgl.study.runner import apart
from trcgl.study.statistics import Runs, difference, mean, over_seeds
from trcgl.study.worker import Job

SCHEMA = "trcgl.study-causes/1"
LESION, COMPANY = ("area", "contrast"), ("partner", "redrawn")
"""Kinds of strata that test the one cause and the other."""
TESTS = {"reweighting": LESION, "attention": LESION, "graph": COMPANY}
"""Module to the kinds of strata in which it should help."""


@dataclass(frozen=True)
class Question:
    """A difference of two arms to be told by stratum.

    Args:
        contrast: the arms.
        kinds: of strata.
    """

    contrast: Contrast
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """What is known about the test images beside their labels, in the order of the predictions.

    Args:
        lesion: area and contrast, finding to a value for every image, NaN where unknown; or the reason why there is
            none.
        partners: finding to its usual partner, or the reason why it has none.
        flipped: partner to the file of images in which it is flipped, or the reason why there is none.
    """

    lesion: Mapping[str, Mapping[str, Rows] | str]
    partners: Mapping[str, Partner | str]
    flipped: Mapping[str, Path | str]


def questions(plan: Plan) -> tuple[Question, ...]:
    """Full against plain on everything, and against the arm without each module where that module should help."""
    first = plan.contrasts[0]
    full = next(one for one in plan.arms if one.name == first.arm)
    asked = [Question(Contrast(first.arm, first.against, "the whole"), tuple(PARTS))]
    for module, kinds in TESTS.items():
        off = tuple(one for one in MODULES if one == module or one in plan.base.model.switched_off)
        without = overridden(plan.base, {"model.switched_off": off})
        for arm in plan.arms:
            if off != plan.base.model.switched_off and arm.recipe(plan.base, 0) == without and arm.drawn == full.drawn:
                asked.append(Question(Contrast(full.name, arm.name, IN_WORDS[module]), kinds))
    return tuple(asked)


def causes(plan: Plan, opened: Dataset, outcomes: Sequence[Outcome], out: Path) -> dict[str, Any]:
    """Measure the finished runs of the arms in question and compare them.

    Args:
        plan: of the ablation.
        opened: its dataset.
        outcomes: of its runs.
        out: the study folder, which keeps what was drawn and measured.

    Returns:
        The part `causes` of the table (schema `trcgl.study-table/1`).
    """
    asked = questions(plan)
    names = [arm.name for arm in plan.arms if any(arm.name in (q.contrast.arm, q.contrast.against) for q in asked)]
    jobs = {name: [one.job for one in outcomes if one.finished and one.job.arm == name] for name in names}
    material = _material(plan, opened, out)
    todo = [job for of in jobs.values() for job in of if not _measured(job)]
    _score(todo, material, opened)
    for job in track(todo, what="strata, run"):
        _measure(job, material, opened)
    told = {name: [storage.read_json(_stored(job)) for job in of] for name, of in jobs.items()}
    document: dict[str, Any] = {
        "level": LEVEL,
        "partners": {
            finding: {"why": one} if isinstance(one, str) else asdict(one) for finding, one in material.partners.items()
        },
        **next(({"kinds": one["kinds"]} for of in told.values() for one in of), {"kinds": {}}),
    }
    runs = {name: _runs(jobs[name], told[name]) for name in names}
    freedom = {name: _freedom(of) for name, of in told.items()}
    document["arms"] = {name: _arm(told[name], runs[name], freedom[name]) for name in names}
    document["contrasts"] = [
        {"arm": q.contrast.arm, "against": q.contrast.against, "what": q.contrast.what, "key": key, **with_interval}
        for q in asked
        for key in dict.fromkeys(key for of in freedom.values() for key in of)
        if key.split("/")[0] in q.kinds
        for with_interval in [_difference(runs, freedom, q.contrast, key)]
    ]
    return document


def strata(
    predictions: Predictions, material: Material, flipped: Mapping[str, np.ndarray]
) -> tuple[list[Stratum], list[Shift], dict[str, dict[str, Any]]]:
    """The strata of one run's test predictions.

    Args:
        predictions: of the run.
        material: about its images.
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
            known = material.lesion[kind]
            cut = known if isinstance(known, str) else by_lesion(kind, finding, truth, score, weight, known[finding])
            if isinstance(cut, str):
                left[kind][finding] = cut
            else:
                made += cut
        partner = material.partners[finding]
        if isinstance(partner, str):
            left["partner"][finding] = left["redrawn"][finding] = partner
            continue
        head = predictions.truth[:, space.index(partner.finding)]
        observed = by_partner(finding, truth, score, weight, head)
        if isinstance(observed, str):
            left["partner"][finding] = observed
        else:
            made += observed[0]
            shifts.append(observed[1])
        where = material.flipped[partner.finding]
        if isinstance(where, str):
            left["redrawn"][finding] = where
        else:
            both = redrawn(finding, truth, score, weight, head, flipped[partner.finding][:, column])
            if isinstance(both, str):
                left["redrawn"][finding] = both
            else:
                made += both[0]
                shifts.append(both[1])
    kinds: dict[str, dict[str, Any]] = {kind: {"positives": {}, "left_out": left[kind]} for kind in PARTS}
    for one in made:
        kinds[one.kind]["positives"].setdefault(one.finding, {})[one.part] = one.positives
    return made, shifts, kinds


def _material(plan: Plan, opened: Dataset, out: Path) -> Material:
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
    for one in partners.values():
        if isinstance(one, Partner) and one.finding not in flipped:
            try:
                flipped[one.finding] = render_flipped(opened, rows, one.finding, out)
            except DataError as error:
                flipped[one.finding] = str(error)
    return Material(lesion, partners, flipped)


def _values(rows: pl.DataFrame, table: pl.DataFrame, finding: str, kind: str) -> Rows:
    own = table.filter(pl.col("finding") == finding).select("image_id", kind)
    joined = rows.select("image_id").join(own, on="image_id", how="left", maintain_order="left")
    return joined[kind].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _score(todo: Sequence[Job], material: Material, opened: Dataset) -> None:
    """Let the models of these runs score the redrawn images."""
    tasks = [
        Scoring(job, images, _scores(job, partner, opened))
        for job in todo
        for partner, images in material.flipped.items()
        if isinstance(images, Path) and not _scores(job, partner, opened).exists()
    ]
    if tasks:
        apart(score_counterfactuals, tasks, "scoring redrawn phantoms")


def _measure(job: Job, material: Material, opened: Dataset) -> None:
    predictions = read_predictions(job.folder / "predictions" / "test.parquet", opened.space)
    flipped = {
        partner: np.load(_scores(job, partner, opened), allow_pickle=False)
        for partner, images in material.flipped.items()
        if isinstance(images, Path)
    }
    made, shifts, kinds = strata(predictions, material, flipped)
    _, owner = np.unique(predictions.patient_id.to_numpy(), return_inverse=True)
    settings = job.recipe.evaluate
    found = measure(made, shifts, owner, replicates=settings.replicates, seed=settings.bootstrap_seed)
    _write(job, found, kinds)


def _write(job: Job, found: Measured, kinds: dict[str, dict[str, Any]]) -> None:
    with storage.atomic(_draws(job)) as aside, open(aside, "wb") as handle:
        np.savez(handle, allow_pickle=False, **{key.replace("/", "."): one for key, one in found.draws.items()})
    told = {"values": found.values, "findings": found.findings, "freedom": found.freedom, "kinds": kinds}
    storage.write_json(_stored(job), {"schema": SCHEMA, **told})


def _measured(job: Job) -> bool:
    return _stored(job).exists() and storage.read_json(_stored(job))["schema"] == SCHEMA


def _stored(job: Job) -> Path:
    return job.folder.with_name(f"causes-{job.seed}.json")


def _draws(job: Job) -> Path:
    return job.folder.with_name(f"causes-{job.seed}.npz")


def _scores(job: Job, partner: str, opened: Dataset) -> Path:
    return job.folder / "predictions" / f"test-flipped-{opened.space.index(partner)}.npy"


def _runs(jobs: Sequence[Job], told: Sequence[dict[str, Any]]) -> dict[str, Runs]:
    draws: dict[str, list[np.ndarray]] = {}
    for job in jobs:
        with np.load(_draws(job), allow_pickle=False) as stored:
            for key in stored.files:
                draws.setdefault(key.replace(".", "/"), []).append(stored[key])
    seeds = tuple(job.seed for job in jobs)
    return {key: Runs(seeds, np.array([one["values"][key] for one in told]), np.stack(of)) for key, of in draws.items()}


def _arm(told: Sequence[dict[str, Any]], runs: dict[str, Runs], freedom: dict[str, float]) -> dict[str, Any]:
    """Metrics of an arm by stratum, and how sure its gaps and shifts are."""
    return {
        key: {
            **over_seeds([one["values"][key] for one in told]),
            "interval": ends(mean(runs[key], freedom[key]).interval()),
            "findings": {
                finding: float(np.mean([one["findings"][key][finding] for one in told]))
                for finding in told[0]["findings"][key]
            },
        }
        for key in runs
    }


def _freedom(told: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {key: min(one["freedom"][key] for one in told) for key in (told[0]["freedom"] if told else ())}


def _difference(
    runs: dict[str, dict[str, Runs]], freedom: dict[str, dict[str, float]], contrast: Contrast, key: str
) -> dict[str, Any]:
    one, other = contrast.arm, contrast.against
    estimate = None
    if key in runs[one] and key in runs[other]:
        estimate = difference(runs[one][key], runs[other][key], min(freedom[one][key], freedom[other][key]))
    if estimate is None:
        return {"value": None, "interval": None, "why": "no seed that both arms finished"}
    found = ends(estimate.interval())
    told: dict[str, Any] = {"value": estimate.value, "interval": found, "seeds": len(estimate.seeds)}
    return told | ({"detectable": estimate.detectable()} if found else {"why": estimate.why})
