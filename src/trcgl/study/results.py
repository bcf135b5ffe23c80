"""From the outcomes of the runs to the table of a study: means over seeds and differences with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trcgl.core import storage
from trcgl.core.recipe import UNUSED_GATE, Recipe, differences
from trcgl.metrics.intervals import LEVEL
from trcgl.study.plan import Contrast, Plan
from trcgl.study.statistics import Estimate, Runs, difference, holm, mean, over_seeds
from trcgl.study.stored import read_stored
from trcgl.study.wording import COLUMNS, names_of, sentences
from trcgl.study.worker import Job

SCHEMA = "trcgl.study-table/1"
TESTED = "tail"
"""The group whose mAP is compared, tested and adjusted."""
DESCRIBED = ("medium", "head", "overall")
"""Groups whose differences have plain 95 % intervals and decide nothing."""

Samples = Mapping[str, Mapping[str, tuple[Runs, float]]]
"""Arm and group (or stratum) to its runs and the degrees of freedom that patients leave."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run."""

    job: Job
    content: dict[str, Any]  # of its outcome file

    @property
    def finished(self) -> bool:
        """Whether the run has metrics; a diverged run has none."""
        return self.content["status"] == "finished"


def collect(jobs: Sequence[Job]) -> list[Outcome]:
    """The outcomes of the runs that are done."""
    return [Outcome(job, storage.read_json(job.outcome)) for job in jobs if job.outcome.exists()]


def results(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The document of schema `trcgl.study-table/1`. The same runs give the same document, so it holds no times."""
    arms: dict[str, Any] = {}
    samples: dict[str, dict[str, tuple[Runs, float]]] = {}
    measured = {name for run in outcomes if run.finished for name in run.content["metrics"]}
    metrics = [name for name in COLUMNS if name in measured or not measured]
    for arm in plan.arms:
        of_arm = [outcome for outcome in outcomes if outcome.job.arm == arm.name]
        runs = [outcome for outcome in of_arm if outcome.finished]
        contents = [outcome.content for outcome in runs]
        samples[arm.name] = {group: _sample(runs, group) for group in (TESTED, *DESCRIBED)}
        first = contents[0] if runs else {"gates": {}, "findings": {}, "cost": {"parameters": None}}
        gates = {name: over_seeds([run["gates"][name] for run in contents]) for name in first["gates"]}
        recipe = arm.recipe(plan.base, 0)
        arms[arm.name] = {
            "reference": arm.reference,
            "differs": arm.differs,
            "changes": [change for change in differences(plan.base, recipe) if not change.startswith("seed:")],
            "seeds": [outcome.job.seed for outcome in runs],
            "diverged": {str(run.job.seed): run.content["why"] for run in of_arm if not run.finished},
            "parameters": first["cost"]["parameters"],
            "metrics": {name: over_seeds([run["metrics"].get(name) for run in contents]) for name in metrics},
            "interval": ends(mean(*samples[arm.name][TESTED]).interval(), least=0.0, most=1.0) if runs else None,
            "gates": gates,
            "unused": _unused(recipe, gates),
            "findings": {
                finding: over_seeds([run["findings"][finding]["AP"] for run in contents])
                for finding in first["findings"]
            },
        }
        subsets = contents[0].get("subsets", {}) if runs else {}  # runs of 0.2.0 have none
        if subsets:
            arms[arm.name]["subsets"] = {
                name: {
                    metric: over_seeds([run.get("subsets", {}).get(name, {}).get(metric) for run in contents])
                    for metric in means
                }
                for name, means in subsets.items()
            }
    document = {
        "schema": SCHEMA,
        "kind": plan.kind,
        "seeds": plan.seeds,
        "level": LEVEL,
        "replicates": plan.base.evaluate.replicates,
        "arms": arms,
        "contrasts": _contrasts(plan.contrasts, samples),
    }
    return document | {"verdict": " ".join(sentences(document))}


def earlier(plan: Plan, out: Path) -> list[dict[str, Any]]:
    """Seeds and contrasts of earlier tables of this study, if they differ from the present table.

    A study that is extended because of its own results finds false differences more often than its level allows.
    """
    if not (out / "table.json").exists():
        return []
    before = read_stored(out / "table.json")
    look = {"seeds": before["seeds"], "contrasts": [names_of(contrast) for contrast in before["contrasts"]]}
    now = {"seeds": plan.seeds, "contrasts": [names_of(asdict(contrast)) for contrast in plan.contrasts]}
    return [seen for seen in [*before.get("earlier", []), look] if seen != now]


def cost_of(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Parameters, images per second (fastest run) and peak memory (largest run) of each arm.

    Apart from the table, because time and memory differ from run to run.
    """
    arms: dict[str, Any] = {}
    for arm in plan.arms:
        costs = [outcome.content["cost"] for outcome in outcomes if outcome.job.arm == arm.name and outcome.finished]
        if costs:
            arms[arm.name] = {
                "parameters": costs[0]["parameters"],
                "images_per_second": max(cost["images_per_second"] or 0.0 for cost in costs) or None,
                "peak_memory_mib": max(cost["peak_memory_mib"] for cost in costs),
                "device": costs[0]["device"],
            }
    return {"schema": "trcgl.study-cost/1", "arms": arms}


def ends(interval: tuple[float, float] | None, *, least: float = -np.inf, most: float = np.inf) -> list[float] | None:
    """An interval, or the part of it within bounds, as the table stores it."""
    return [float(np.clip(end, least, most)) for end in interval] if interval else None


def compare(samples: Samples, contrast: Contrast, metric: str) -> Estimate | None:
    """The difference of two arms in a metric; None if they share no seed that has it."""
    arm, against = samples[contrast.arm].get(metric), samples[contrast.against].get(metric)
    return difference(arm[0], against[0], min(arm[1], against[1])) if arm and against else None


def _sample(runs: Sequence[Outcome], group: str) -> tuple[Runs, float]:
    replicates = []
    for run in runs:
        with np.load(run.job.replicates, allow_pickle=False) as stored:
            replicates.append(stored[group])
    values = [run.content["metrics"][f"mAP_{group}"] for run in runs]
    sample = Runs(
        tuple(run.job.seed for run in runs),
        np.array([np.nan if value is None else value for value in values], np.float64),
        np.stack(replicates) if replicates else np.empty((0, 0)),
    )
    return sample, min((run.content["freedom"][group] for run in runs), default=0.0)


def _unused(recipe: Recipe, gates: dict[str, dict[str, Any]]) -> list[str]:
    """Modules that training could have switched on and did not, in any seed."""
    if not recipe.model.learn_gates:
        return []
    learned = {name: gate["values"] for name, gate in gates.items() if name not in recipe.model.switched_off}
    return [name for name, values in learned.items() if max(map(abs, values)) < UNUSED_GATE]


def _contrasts(asked: Sequence[Contrast], samples: Samples) -> list[dict[str, Any]]:
    estimates = [compare(samples, contrast, TESTED) for contrast in asked]
    p = {place: estimate.p() for place, estimate in enumerate(estimates) if place and estimate}
    adjusted = holm({place: value for place, value in p.items() if value is not None})
    found = []
    for place, (contrast, estimate) in enumerate(zip(asked, estimates, strict=True)):
        document: dict[str, Any] = {
            **asdict(contrast),
            "primary": place == 0,
            "value": estimate.value if estimate else None,
            "seeds": list(estimate.seeds) if estimate else [],
        }
        if estimate is None or estimate.error is None:
            why = estimate.why if estimate else "no seed that both arms finished"
            found.append(document | {"interval": None, "p": None, "detectable": None, "why": why})
            continue
        step = adjusted.get(place)
        alpha = step.alpha if step else 1 - LEVEL
        document |= {
            "error": estimate.error,
            "freedom": estimate.freedom if np.isfinite(estimate.freedom) else None,
            "interval": ends(estimate.interval(alpha)),
            "level": 1 - alpha,
            "p": step.p if step else estimate.p(),
            "detectable": estimate.detectable(alpha),
            "dropped": estimate.dropped,
            "also": {},
        }
        for group in DESCRIBED:
            other = compare(samples, contrast, group)
            if other and np.isfinite(other.value):
                document["also"][f"mAP_{group}"] = {"value": other.value, "interval": ends(other.interval())}
        found.append(document)
    return found
