"""Validation between epochs: mean AP and AUROC on val."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from trcgl.core.errors import DataError
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.metrics.auroc import auroc
from trcgl.metrics.average_precision import average_precision

SELECTED = "val/mAP"
"""The metric that selects the best epoch."""


def validation_metrics(
    truth: Float[np.ndarray, "rows findings"],
    score: Float[np.ndarray, "rows findings"],
    weight: Float[np.ndarray, " rows"],
    space: LabelSpace,
) -> dict[str, float]:
    """`val/mAP` and `val/mAUC` over the scored findings, and `val/mAP_<group>`; undefined means are left out.

    Args:
        truth: 1 present, 0 absent, NaN unknown.
        score: any monotone function of the probability, the logit for instance.
        weight: weight of each row.
        space: label space of the columns.

    Raises:
        DataError: no scored finding has a positive in val, so that no epoch can be chosen.
    """
    precision, area = {}, {}
    for finding in space.scored:
        column = truth[:, space.index(finding)], score[:, space.index(finding)], weight
        precision[finding] = average_precision(*column).value
        area[finding] = auroc(*column).value
    means = {SELECTED: _mean(precision.values()), "val/mAUC": _mean(area.values())}
    means |= {f"val/mAP_{group}": _mean(precision[finding] for finding in space.in_group(group)) for group in GROUPS}
    if means[SELECTED] is None:
        raise DataError("val has no positive of any finding, so no epoch can be chosen. Prepare the dataset again.")
    return {name: value for name, value in means.items() if value is not None}


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
