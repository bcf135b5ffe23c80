"""Choice of the dose and schedule for the primary contrast of `utility`: on val, by a rule fixed beforehand."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.evaluate.predictions import read_predictions
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.study.worker import Job

SCHEMA = "trcgl.utility-choice/1"
RULE = (
    "the dose and schedule of the arm synthetic with the highest tail mAP on val, mean over the choosing seeds, among "
    "those that lost the fewest; the smaller dose, then the schedule named first, where two are equal"
)
FIRST_SEED = 1000
"""First seed of the choosing runs. They are not the compared runs: a setting that had lucky seeds when it was chosen
would keep them on test."""


@dataclass(frozen=True)
class Setting:
    """A way to train with synthetic images."""

    dose: float  # kept images generated for a finding ÷ its real training images
    schedule: str  # mix or pretrain

    @property
    def name(self) -> str:
        """The setting as part of an arm's name, such as `mix_0.25`."""
        return f"{self.schedule}_{self.dose:g}"


def choose(runs: Sequence[tuple[Setting, Sequence[Job]]], space: LabelSpace) -> dict[str, Any]:
    """Choose by `RULE`, from predictions on val only; the document of schema `trcgl.utility-choice/1`.

    `runs` are settings in ascending order of dose, each with its runs, all of which are done.
    """
    candidates: list[dict[str, Any]] = []
    for setting, jobs in runs:
        finished = [job for job in jobs if storage.read_json(job.outcome)["status"] == "finished"]
        values = [val_tail(job, space) for job in finished]
        mean = float(np.mean(values)) if values else None
        seeds = [job.seed for job in finished]
        candidates.append({**asdict(setting), "seeds": seeds, "mean": mean, "values": values})
    possible = [candidate for candidate in candidates if candidate["seeds"]]
    if not possible:
        raise DataError(
            "every run with synthetic images diverged. Give a smaller --train.head-lr and --train.backbone-lr."
        )
    best = max(possible, key=lambda candidate: (len(candidate["seeds"]), candidate["mean"]))  # the first of equals
    chosen = {"dose": best["dose"], "schedule": best["schedule"]}
    return {"schema": SCHEMA, "rule": RULE, **chosen, "candidates": candidates}


def val_tail(job: Job, space: LabelSpace) -> float:
    """Tail mAP of a run on val, over the findings that have a positive there."""
    predictions = read_predictions(job.folder / "predictions" / "val.parquet", space)
    truth, score = predictions.truth.T, predictions.score.T
    columns = [space.index(finding) for finding in space.in_group("tail")]
    precisions = [AVERAGE_PRECISION(truth[column], score[column], predictions.weight).value for column in columns]
    defined = [precision for precision in precisions if precision is not None]
    if not defined:
        raise DataError("val has no positive of a tail finding, and dose and schedule are chosen by tail mAP on it.")
    return float(np.mean(defined))
