"""The table of a study: means over seeds, differences with their intervals, and a verdict that is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trcgl.core import storage
from trcgl.core.recipe import UNUSED_GATE, Recipe, differences
from trcgl.metrics.intervals import LEVEL
from trcgl.study.plan import Contrast, Plan
from trcgl.study.statistics import Estimate, Runs, difference, holm, mean, over_seeds
from trcgl.study.wording import METRICS, verdict
from trcgl.study.worker import Job

SCHEMA = "trcgl.study-table/1"
JUDGED = "tail"
"""The group whose mAP is compared, tested and adjusted."""
DESCRIBED = ("medium", "head", "overall")
"""Groups whose differences are told with plain 95 % intervals, and decide nothing."""


@dataclass(frozen=True)
class Outcome:
    """What came out of one run.

    Args:
        job: the run.
        told: content of its outcome file.
    """

    job: Job
    told: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it has numbers; a run that diverged has not."""
        return self.told["status"] == "finished"


def collect(jobs: Sequence[Job]) -> list[Outcome]:
    """The outcomes of the runs that are done."""
    return [Outcome(one, storage.read_json(one.outcome)) for one in jobs if one.outcome.exists()]


def results(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The document of schema `trcgl.study-table/1`: everything that the same runs always give, so no times.

    Args:
        plan: of the study.
        outcomes: of its runs.
    """
    by_arm = {arm.name: [one for one in outcomes if one.job.arm == arm.name] for arm in plan.arms}
    finished = {name: [one for one in told if one.finished] for name, told in by_arm.items()}
    patients = {
        name: {group: min((one.told["freedom"][group] for one in told), default=0.0) for group in (JUDGED, *DESCRIBED)}
        for name, told in finished.items()
    }
    runs = {name: {group: _runs(told, group) for group in patients[name]} for name, told in finished.items()}
    arms = {}
    for arm in plan.arms:
        told = finished[arm.name]
        arms[arm.name] = {
            "reference": arm.reference,
            "differs": arm.differs,
            "changes": [one for one in differences(plan.base, plan.recipe(arm, 0)) if not one.startswith("seed:")],
            "seeds": [one.job.seed for one in told],
            "diverged": {str(one.job.seed): one.told["why"] for one in by_arm[arm.name] if not one.finished},
            "parameters": told[0].told["cost"]["parameters"] if told else None,
            "metrics": {name: over_seeds([one.told["metrics"][name] for one in told]) for name in METRICS},
            "interval": _within(mean(runs[arm.name][JUDGED], patients[arm.name][JUDGED]).interval()) if told else None,
            "gates": _gates(told),
            "unused": _unused(plan.recipe(arm, 0), told),
            "findings": {
                finding: over_seeds([one.told["findings"][finding]["AP"] for one in told])
                for finding in (told[0].told["findings"] if told else ())
            },
        }
    contrasts = _contrasts(plan, runs, patients)
    document = {
        "schema": SCHEMA,
        "kind": plan.kind,
        "seeds": plan.seeds,
        "level": LEVEL,
        "replicates": plan.base.evaluate.replicates,
        "arms": arms,
        "contrasts": contrasts,
    }
    return document | {"verdict": verdict(document)}


def earlier(plan: Plan, out: Path) -> list[dict[str, Any]]:
    """Number of seeds and names of the contrasts of the tables that this study has written before with others than now.

    A study that is extended because of what its table said finds more than its level says.
    """
    if not (out / "table.json").exists():
        return []
    before = storage.read_json(out / "table.json")
    look = {"seeds": before["seeds"], "contrasts": [f"{one['arm']} - {one['against']}" for one in before["contrasts"]]}
    now = {"seeds": plan.seeds, "contrasts": [f"{one.arm} - {one.against}" for one in plan.contrasts]}
    return [one for one in [*before.get("earlier", []), look] if one != now]


def _runs(outcomes: Sequence[Outcome], group: str) -> Runs:
    drawn = []
    for one in outcomes:
        with np.load(one.job.replicates, allow_pickle=False) as stored:
            drawn.append(stored[group])
    values = [one.told["metrics"][f"mAP_{group}"] for one in outcomes]
    return Runs(
        tuple(one.job.seed for one in outcomes),
        np.array([np.nan if one is None else one for one in values], np.float64),
        np.stack(drawn) if drawn else np.empty((0, 0)),
    )


def _gates(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    names = outcomes[0].told["gates"] if outcomes else {}
    return {name: over_seeds([one.told["gates"][name] for one in outcomes]) for name in names}


def _unused(recipe: Recipe, outcomes: Sequence[Outcome]) -> list[str]:
    """Modules that training could have switched on and did not, in no seed."""
    values = {name: one["values"] for name, one in _gates(outcomes).items() if name not in recipe.model.switched_off}
    return [name for name, of in values.items() if recipe.model.learn_gates and max(map(abs, of)) < UNUSED_GATE]


def _contrasts(
    plan: Plan, runs: dict[str, dict[str, Runs]], patients: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    found = [_compared(runs, one, JUDGED, patients) for one in plan.contrasts]
    p = {str(place): one.p() for place, one in enumerate(found) if place and one and one.p() is not None}
    adjusted = holm({name: value for name, value in p.items() if value is not None})
    told = []
    for place, (contrast, estimate) in enumerate(zip(plan.contrasts, found, strict=True)):
        one = adjusted.get(str(place))
        alpha = one.alpha if one else 1 - LEVEL
        document: dict[str, Any] = {
            "arm": contrast.arm,
            "against": contrast.against,
            "what": contrast.what,
            "primary": place == 0,
            "value": estimate.value if estimate else None,
            "seeds": list(estimate.seeds) if estimate else [],
        }
        if estimate is None or estimate.error is None:
            why = estimate.why if estimate else "no seed that both arms finished"
            told.append(document | {"interval": None, "p": None, "detectable": None, "why": why})
            continue
        also = {group: _compared(runs, contrast, group, patients) for group in DESCRIBED}
        told.append(
            document
            | {
                "error": estimate.error,
                "freedom": estimate.freedom if np.isfinite(estimate.freedom) else None,
                "interval": ends(estimate.interval(alpha)),
                "level": 1 - alpha,
                "p": one.p if one else estimate.p(),
                "detectable": estimate.detectable(alpha),
                "dropped": estimate.dropped,
                "also": {
                    f"mAP_{group}": {"value": other.value, "interval": ends(other.interval())}
                    for group, other in also.items()
                    if other and np.isfinite(other.value)
                },
            }
        )
    return told


def _compared(
    runs: dict[str, dict[str, Runs]], contrast: Contrast, group: str, patients: dict[str, dict[str, float]]
) -> Estimate | None:
    one, other = contrast.arm, contrast.against
    return difference(runs[one][group], runs[other][group], min(patients[one][group], patients[other][group]))


def ends(interval: tuple[float, float] | None) -> list[float] | None:
    """An interval as the table holds it."""
    return [float(one) for one in interval] if interval else None


def _within(interval: tuple[float, float] | None) -> list[float] | None:
    """The part of an interval in which a mean of AP can lie."""
    return [float(np.clip(one, 0, 1)) for one in interval] if interval else None


def cost_of(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Parameters, images per second and peak memory of each arm: the fastest of its runs, and its largest memory.

    Apart from the table, because the clock never gives the same numbers twice.
    """
    told: dict[str, Any] = {}
    for arm in plan.arms:
        costs = [one.told["cost"] for one in outcomes if one.job.arm == arm.name and one.finished]
        if costs:
            told[arm.name] = {
                "parameters": costs[0]["parameters"],
                "images_per_second": max((one["images_per_second"] or 0.0 for one in costs), default=0.0) or None,
                "peak_memory_mib": max(one["peak_memory_mib"] for one in costs),
                "device": costs[0]["device"],
            }
    return {"schema": "trcgl.study-cost/1", "arms": told}
