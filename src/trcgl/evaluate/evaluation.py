"""Evaluate the predictions of one split: each metric with sample size and interval, or why it has none."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from trcgl.core.errors import DataError
from trcgl.dataset.labels import GROUPS
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics.intervals import FEW, LEVEL, METHOD
from trcgl.metrics.summary import measure

SCHEMA = "trcgl.evaluation/1"
AGE_BANDS = ((0, 18), (18, 40), (40, 60), (60, 80), (80, 200))


def evaluate(
    predictions: Predictions, thresholds: Mapping[str, float], *, split: str, replicates: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Evaluate the predictions of one split.

    Means are over the `scored` findings of the label space of the predictions, group means over its groups.

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
    subsets = {"": np.ones(len(predictions), bool), **dict(subset_rows(predictions))}
    parts = {
        name: _evaluate_rows(predictions.select(rows), thresholds, replicates, seed)
        for name, rows in subsets.items()
        if not (name and rows.all())
    }
    everything = parts[""]
    return {
        "schema": SCHEMA,
        "split": split,
        "label_space": space.to_dict(),
        **everything,
        "subsets": {name: parts.get(name, everything) for name in subsets if name},
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
    column = {finding: place for place, finding in enumerate(space.findings)}
    groups = {group: space.in_group(group) for group in GROUPS}
    cuts = [thresholds[finding] for finding in space.findings]
    measured = measure(*predictions.arrays, cuts, replicates=replicates, seed=seed)

    def means(findings: tuple[str, ...]) -> dict[str, Any]:
        return measured.means([column[finding] for finding in findings])

    counted = {"images": len(predictions)}
    if predictions.images is not None:
        counted = {"images": int(predictions.images.sum()), "studies": len(predictions)}
    return {
        **counted,
        "patients": int(measured.owner.max()) + 1,
        "overall": means(space.scored),
        "groups": {group: {"findings": list(members), **means(members)} for group, members in groups.items()},
        "findings": {
            finding: {
                "group": space.groups.get(finding),
                **measured.finding(place),
                "threshold": thresholds[finding],
            }
            for finding, place in column.items()
        },
    }
