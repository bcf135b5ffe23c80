"""The judgment of one split: every metric with its n, its interval and, where there is none, the reason."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from trcgl.core.errors import DataError
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.evaluate.measured import CALLED, RANKED, Measured, measure_findings
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics.intervals import (
    FEW,
    LEVEL,
    METHOD,
    Interval,
    error_interval,
    freedom_of_mean,
    interval,
)

SCHEMA = "trcgl.evaluation/1"
METRICS = (*RANKED, *CALLED)
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
    measured = measure_findings(predictions, thresholds, bootstrapped=METRICS, replicates=replicates, seed=seed)
    findings: dict[str, Any] = {}
    for column, finding in enumerate(space.findings):
        truth = predictions.truth[:, column]
        positive_patients = len(np.unique(measured.owner[truth == 1]))
        findings[finding] = {
            "group": space.groups.get(finding),
            "positives": int((truth == 1).sum()),
            "positive_patients": positive_patients,
            "known": int((~np.isnan(truth)).sum()),
            "few": positive_patients < FEW,
            **{name: _one(name, measured, column) for name in METRICS},
            "threshold": thresholds[finding],
        }

    def mean(name: str, of: tuple[str, ...]) -> dict[str, Any]:
        columns = [space.index(one) for one in of]
        values, samples = measured.values(name)[columns], measured.replicates[name][:, columns]
        told = mean_over_findings(values, samples, measured.freedom[columns], _rule(name))
        few = sum(findings[one]["few"] and findings[one][name]["value"] is not None for one in of)
        return told | {"few": few}

    return {
        "images": len(predictions),
        "patients": int(measured.owner.max()) + 1,
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


def mean_over_findings(
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
    samples, freedom = samples[:, defined], freedom[defined]
    if rule is error_interval:  # ν does not widen it
        patients = float(np.maximum(freedom, 0).sum())
    else:
        patients = freedom_of_mean(samples, freedom)
        if patients <= 0:
            why = "a finding among them has fewer than two positive patients: no interval"
            return {"value": value, "ci": None, "dropped": 0, "why": why, "findings": int(defined.sum())}
    return with_interval(value, rule(value, samples.mean(axis=1), patients)) | {"findings": int(defined.sum())}


def with_interval(value: float, found: Interval) -> dict[str, Any]:
    """A value and its interval, as they are stored."""
    told: dict[str, Any] = {"value": value, "ci": list(found.ends) if found.ends else None, "dropped": found.dropped}
    return told | ({"why": found.why} if found.why else {})


def _one(name: str, measured: Measured, column: int) -> dict[str, Any]:
    metric = measured.metrics[name][column]
    if metric.value is None:
        return {"value": None, "ci": None, "why": metric.why}
    samples, freedom = measured.replicates[name][:, column], float(measured.freedom[column])
    return with_interval(metric.value, _rule(name)(metric.value, samples, freedom))


def _rule(name: str) -> Callable[..., Interval]:
    return error_interval if name == "ECE" else interval
