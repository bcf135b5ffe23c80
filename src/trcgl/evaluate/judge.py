"""The judgment of one split: every metric with its n, its interval and, where there is none, the reason."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from trcgl.core.errors import DataError
from trcgl.data.labels import GROUPS, LabelSpace
from trcgl.evaluate import metrics
from trcgl.evaluate.bootstrap import patient_bootstrap
from trcgl.evaluate.intervals import (
    FEW,
    LEVEL,
    METHOD,
    Interval,
    effective_patients,
    error_interval,
    interval,
)
from trcgl.evaluate.metrics import Metric
from trcgl.evaluate.predictions import Predictions

SCHEMA = "trcgl.evaluation/1"
METRICS = ("AP", "AUC", "F1", "ECE")
AGE_BANDS = ((0, 18), (18, 40), (40, 60), (60, 80), (80, 200))


def judge(
    predictions: Predictions,
    space: LabelSpace,
    thresholds: Mapping[str, float],
    *,
    split: str,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge the predictions of one split.

    Args:
        predictions: scores (calibrated) and labels.
        space: its `scored` findings make the means, its groups the group means.
        thresholds: finding to the threshold that was fitted on val.
        split: name of the split.
        replicates: patient-bootstrap replicates.
        seed: of the bootstrap.

    Returns:
        The document of schema `trcgl.evaluation/1`.

    Raises:
        DataError: there is no image, a finding has no threshold, or the label spaces differ.
    """
    if predictions.space.findings != space.findings:
        raise DataError(f"predictions are for {predictions.space.name}, the label space is {space.name}.")
    if not len(predictions):
        raise DataError(f"split {split!r} has no image to judge.")
    if missing := [one for one in space.findings if one not in thresholds]:
        raise DataError(f"{missing[0]} has no threshold. Run `trcgl evaluate` again: it fits thresholds on val.")
    everything = _judge_rows(predictions, thresholds, replicates, seed)
    subsets = {}
    for name, rows in subset_rows(predictions):
        subsets[name] = (
            everything if rows.all() else _judge_rows(predictions.select(rows), thresholds, replicates, seed)
        )
    return {
        "schema": SCHEMA,
        "split": split,
        "label_space": space.to_dict(),
        **everything,
        "subsets": subsets,
        "bootstrap": {
            "unit": "patient",
            "replicates": replicates,
            "seed": seed,
            "level": LEVEL,
            "method": METHOD,
            "few": f"fewer than {FEW} positive patients",
        },
    }


def subset_rows(predictions: Predictions) -> Iterator[tuple[str, Bool[np.ndarray, " rows"]]]:
    """Name and rows of each view, label source, sex and age band that occurs."""
    for column in ("view", "label_source", "sex"):
        values = getattr(predictions, column)
        for value in values.drop_nulls().unique().sort():
            yield f"{column}={value}", (values == value).fill_null(False).to_numpy()
    age = predictions.age.fill_null(np.nan).to_numpy()
    for low, high in AGE_BANDS:
        rows = (age >= low) & (age < high)
        if rows.any():
            yield f"age={low}-{high - 1}" if high < 200 else f"age={low}+", rows


def _judge_rows(
    predictions: Predictions, thresholds: Mapping[str, float], replicates: int, seed: int
) -> dict[str, Any]:
    space = predictions.space
    truth, score = predictions.truth.astype(np.float64), predictions.score.astype(np.float64)
    patients, owner = np.unique(predictions.patient_id.to_numpy(), return_inverse=True)
    cuts = [thresholds[one] for one in space.findings]
    drawn = patient_bootstrap(
        truth, score, owner, predictions.weight, thresholds=cuts, replicates=replicates, seed=seed
    )
    samples = dict(zip(METRICS, (drawn.ap, drawn.auroc, drawn.f1, drawn.ece), strict=True))
    freedom = np.array([effective_patients(one, owner, predictions.weight) - 1 for one in truth.T])
    values: dict[str, list[float | None]] = {name: [] for name in METRICS}
    findings: dict[str, Any] = {}
    for column, finding in enumerate(space.findings):
        of_finding = (truth[:, column], score[:, column], predictions.weight)
        told = {
            "AP": metrics.average_precision(*of_finding),
            "AUC": metrics.auroc(*of_finding),
            "F1": metrics.f1_at(cuts[column], *of_finding),
            "ECE": metrics.expected_calibration_error(*of_finding),
        }
        positive = truth[:, column] == 1
        positive_patients = len(np.unique(owner[positive]))
        findings[finding] = {
            "group": space.groups.get(finding),
            "positives": int(positive.sum()),
            "positive_patients": positive_patients,
            "known": int((~np.isnan(truth[:, column])).sum()),
            "few": positive_patients < FEW,
            **{name: _one(name, told[name], samples[name][:, column], freedom[column]) for name in METRICS},
            "threshold": cuts[column],
        }
        for name in METRICS:
            values[name].append(told[name].value)
    table = {name: np.array(values[name], np.float64) for name in METRICS}

    def mean(name: str, of: tuple[str, ...]) -> dict[str, Any]:
        columns = [space.index(one) for one in of]
        told = mean_of(table[name][columns], samples[name][:, columns], freedom[columns], _rule(name))
        few = sum(findings[one]["few"] and findings[one][name]["value"] is not None for one in of)
        return told | {"few": few}

    return {
        "images": len(predictions),
        "patients": len(patients),
        "overall": {f"m{name}": mean(name, space.scored) for name in METRICS},
        "groups": {
            group: {
                "findings": list(space.in_group(group)),
                **{f"m{name}": mean(name, space.in_group(group)) for name in METRICS},
            }
            for group in GROUPS
        },
        "findings": findings,
    }


def mean_of(
    values: Float[np.ndarray, " findings"],
    samples: Float[np.ndarray, "replicates findings"],
    freedom: Float[np.ndarray, " findings"],
    rule: Callable[..., Interval] = interval,
) -> dict[str, Any]:
    """The mean of one metric over the findings that have it, and the interval of that mean.

    Replicates draw the same patients for every finding, so findings that share patients are not taken for independent;
    a replicate that leaves one of the findings undefined is dropped.

    Args:
        values: of each finding, NaN where undefined.
        samples: the same on every replicate.
        freedom: effective positive patients of each finding less one.
        rule: makes the interval.
    """
    defined = ~np.isnan(values)
    if not defined.any():
        why = "undefined for every finding" if len(values) else "no finding in this group"
        return {"value": None, "ci": None, "findings": 0, "why": why}
    value = float(values[defined].mean())
    found = rule(value, samples[:, defined].mean(axis=1), float(np.maximum(freedom[defined], 0).sum()))
    return told_of(value, found) | {"findings": int(defined.sum())}


def told_of(value: float, found: Interval) -> dict[str, Any]:
    """A value and its interval, as they are stored."""
    told: dict[str, Any] = {"value": value, "ci": list(found.ends) if found.ends else None, "dropped": found.dropped}
    return told | ({"why": found.why} if found.why else {})


def _one(name: str, metric: Metric, samples: Float[np.ndarray, " replicates"], freedom: float) -> dict[str, Any]:
    if metric.value is None:
        return {"value": None, "ci": None, "why": metric.why}
    return told_of(metric.value, _rule(name)(metric.value, samples, float(freedom)))


def _rule(name: str) -> Callable[..., Interval]:
    return error_interval if name == "ECE" else interval
