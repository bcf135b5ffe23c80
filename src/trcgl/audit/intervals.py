"""AUROC and rates with 95 % intervals from a bootstrap over patients, as most checks report them.

A synthetic image belongs to the source patient: the patient whose label set it was generated with.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt16

from trcgl.metrics.auroc import AUROC
from trcgl.metrics.bootstrap import resample_patients
from trcgl.metrics.intervals import effective_patients, interval
from trcgl.metrics.summary import measure, with_interval

REPLICATES = 2000


def undefined(why: str | None) -> dict[str, Any]:
    """The stored form of a value that does not exist."""
    return {"value": None, "ci": None, "why": why}


def auroc_with_interval(
    truth: Float[np.ndarray, " rows"],
    score: Float[np.ndarray, " rows"],
    patients: Sequence[str] | np.ndarray,
    weight: Float[np.ndarray, " rows"] | None = None,
    *,
    both_sides: bool = False,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """AUROC with its interval; a higher score means more likely positive, and truth may be NaN.

    With `both_sides` the degrees of freedom are those of the side with fewer patients, not of the positives.
    """
    owner = np.unique(np.asarray(patients), return_inverse=True)[1]
    measured = measure(
        truth[:, None], score[:, None], owner, weight, metrics=(AUROC,), replicates=replicates, seed=seed
    )
    if both_sides:
        others = effective_patients(1 - truth, owner, weight) - 1
        measured = replace(measured, freedom={"AUC": np.minimum(measured.freedom["AUC"], others)})
    found: dict[str, Any] = measured.finding(0)["AUC"]
    return found


def rate(
    positive: Bool[np.ndarray, " rows"],
    patients: Sequence[str] | np.ndarray,
    weight: Float[np.ndarray, " rows"] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """Share of positive images with its interval."""
    if not len(positive):
        return undefined("no image")
    weight = np.ones(len(positive)) if weight is None else weight
    if not weight.sum() > 0:
        return undefined("every image has weight 0")
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    hits, totals = (np.bincount(owner, mass, len(names)) for mass in (weight * positive, weight))
    counts = resample_counts(len(names), replicates, seed)
    with np.errstate(invalid="ignore"):  # 0 / 0: this replicate leaves the rate undefined
        samples = (counts @ hits) / (counts @ totals)
    value = float(hits.sum() / totals.sum())
    return with_interval(value, interval(value, samples, effective_patients(np.ones(len(positive)), owner, weight) - 1))


@functools.lru_cache(maxsize=8)
def resample_counts(patients: int, replicates: int, seed: int) -> UInt16[np.ndarray, "replicates patients"]:
    """How often each replicate holds each patient; cached because findings and prompt styles share the patients."""
    return np.stack([resample_patients(patients, seed, number) for number in range(replicates)]).astype(np.uint16)
