"""Which dose and schedule the primary contrast of `utility` has: chosen on val, by a rule that is fixed beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.evaluate.predictions import read_predictions
from trcgl.metrics.average_precision import average_precision
from trcgl.study.worker import Job

SCHEMA = "trcgl.utility-choice/1"
RULE = (
    "the dose and schedule of the arm drawn with the highest tail mAP on val, mean over the choosing seeds, among "
    "those that lost the fewest; the smaller dose, then the schedule named first, where two are equal"
)
FIRST_SEED = 1000
"""Of the runs that choose. They are not the runs that are compared: a setting that had lucky seeds when it was chosen
would keep them on test."""


@dataclass(frozen=True)
class Setting:
    """How drawn images take part.

    Args:
        dose: kept images drawn for a finding ÷ its real training images.
        schedule: mix or pretrain.
    """

    dose: float
    schedule: str

    @property
    def name(self) -> str:
        """As part of an arm's name."""
        return f"{self.schedule}_{self.dose:g}"


def choose(runs: Sequence[tuple[Setting, Sequence[Job]]], space: LabelSpace) -> dict[str, Any]:
    """Choose by `RULE`. Reads predictions on val, and nothing about test.

    Args:
        runs: settings in ascending order of dose, each with its runs, all of which are done.
        space: of the dataset.

    Returns:
        Schema `trcgl.utility-choice/1`: dose, schedule, and what val said of every candidate.

    Raises:
        DataError: no run finished, or val has no positive of a tail finding.
    """
    candidates: list[dict[str, Any]] = []
    for setting, jobs in runs:
        values = {
            job.seed: val_tail(job, space) for job in jobs if storage.read_json(job.outcome)["status"] == "finished"
        }
        candidates.append(
            {
                "dose": setting.dose,
                "schedule": setting.schedule,
                "seeds": list(values),
                "mean": float(np.mean(list(values.values()))) if values else None,
                "values": list(values.values()),
            }
        )
    finished = [one for one in candidates if one["seeds"]]
    if not finished:
        raise DataError("every run with drawn images diverged. Give a smaller --train.head-lr and --train.backbone-lr.")
    best = max(finished, key=lambda one: (len(one["seeds"]), one["mean"]))  # the first of equals
    return {
        "schema": SCHEMA,
        "rule": RULE,
        "dose": best["dose"],
        "schedule": best["schedule"],
        "candidates": candidates,
    }


def val_tail(job: Job, space: LabelSpace) -> float:
    """Tail mAP of a run on val, over the findings that have a positive there.

    Raises:
        DataError: none has.
    """
    told = read_predictions(job.folder / "predictions" / "val.parquet", space)
    columns = [space.index(one) for one in space.in_group("tail")]
    found = [average_precision(told.truth[:, one], told.score[:, one], told.weight).value for one in columns]
    defined = [one for one in found if one is not None]
    if not defined:
        raise DataError("val has no positive of a tail finding, and dose and schedule are chosen by tail mAP on it.")
    return float(np.mean(defined))
