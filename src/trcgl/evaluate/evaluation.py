"""Evaluate the predictions of one split: every metric with its n, its interval and, where there is none, the reason."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from trcgl.core.errors import DataError
from trcgl.dataset.labels import GROUPS
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics.intervals import FEW, LEVEL, METHOD

SCHEMA = "trcgl.evaluation/1"
AGE_BANDS = ((0, 18), (18, 40), (40, 60), (60, 80), (80, 200))


def evaluate(
    predictions: Predictions, thresholds: Mapping[str, float], *, split: str, replicates: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Evaluate the predictions of one split.

    Args:
        predictions: calibrated scores and labels. The `scored` findings of their label space make the means, its groups
            the group means.
        thresholds: finding to the threshold that was fitted on val.
        split: name of the split.
        replicates: number of patient-bootstrap replicates.
        seed: random seed of the bootstrap.

    Returns:
        The document of schema `trcgl.evaluation/1`.

    Raises:
        DataError: there is no image, or a finding has no threshold.
    """
    space = predictions.space
    if not len(predictions):
        raise DataError(f"split {split!r} has no image to evaluate.")
    if missing := [finding for finding in space.findings if finding not in thresholds]:
        raise DataError(f"{missing[0]} has no threshold. Run `trcgl evaluate` again: it fits thresholds on val.")
    everything = _evaluate_rows(predictions, thresholds, replicates, seed)
    subsets = {
        name: everything if rows.all() else _evaluate_rows(predictions.select(rows), thresholds, replicates, seed)
        for name, rows in subset_rows(predictions)
    }
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


def _evaluate_rows(
    predictions: Predictions, thresholds: Mapping[str, float], replicates: int, seed: int
) -> dict[str, Any]:
    space = predictions.space
    measured = predictions.measure(thresholds, replicates=replicates, seed=seed)

    def means(findings: tuple[str, ...]) -> dict[str, Any]:
        return measured.means([space.index(finding) for finding in findings])

    return {
        "images": len(predictions),
        "patients": int(measured.owner.max()) + 1,
        "overall": means(space.scored),
        "groups": {
            group: {"findings": list(space.in_group(group)), **means(space.in_group(group))} for group in GROUPS
        },
        "findings": {
            finding: {
                "group": space.groups.get(finding),
                **measured.finding(column),
                "threshold": thresholds[finding],
            }
            for column, finding in enumerate(space.findings)
        },
    }
