"""Validation between epochs: means over findings of the ranking metrics on val."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.finding_counts import finding_counts, without_negatives
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.registry import RANKING
from trcgl.metrics.rows import Rows, Table

_NO_CHOICE = (
    "val has no positive of any finding that also has a known negative there, so no epoch can be chosen. Prepare the "
    "dataset again; if blank cells of its table mean absent, with --source.blank absent."
)
SELECTED = "val/mAP"
"""The metric that selects the best epoch."""


def validation_metrics(
    truth: Table,
    score: Table,
    weight: Rows,
    space: LabelSpace,
    absent_findings: Literal["left_out", "zero"] = "left_out",
) -> dict[str, float]:
    """`val/m<metric>` over the scored findings for every ranking metric, and `val/mAP_<group>`, where defined.

    `truth` is 1 present, 0 absent, NaN unknown; `score` any monotone function of the probability, such as the logit.
    An undefined AP is left out of `val/mAP`, or counts as `zero` there.

    Raises:
        DataError: no scored finding has a positive and a known negative in val, so that no epoch can be chosen.
    """
    columns = {name: (truth[:, space.index(name)], score[:, space.index(name)], weight) for name in space.scored}
    values = {metric.name: {name: metric(*column).value for name, column in columns.items()} for metric in RANKING}
    means = {f"val/m{metric}": _mean(of_finding.values()) for metric, of_finding in values.items()}
    precision = values[AVERAGE_PRECISION.name]
    means |= {f"val/mAP_{group}": _mean(precision[name] for name in space.in_group(group)) for group in GROUPS}
    if means[SELECTED] is None:
        raise DataError(_NO_CHOICE)
    if absent_findings == "zero":
        means[SELECTED] = _mean(value or 0.0 for value in precision.values())
    return {name: value for name, value in means.items() if value is not None}


def check_labels(rows: pl.DataFrame, space: LabelSpace) -> list[str]:
    """Sentences on the findings that have positives, but no known negative, in a split of the training dataset.

    Raises:
        DataError: no scored finding has a positive and a known negative in val, so that no epoch can be chosen.
    """
    findings = finding_counts(rows, space)
    val = [finding["val"] for finding in findings if finding["finding"] in space.scored]
    if not any(split["images"] and split["negatives"] for split in val):
        raise DataError(_NO_CHOICE)
    return without_negatives(findings)


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
