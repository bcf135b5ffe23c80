"""The rows of one finding: known labels, the order of the scores, and the reasons why a metric has no value."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from trcgl.core.errors import DataError

NO_LABEL = "no known label"
NO_POSITIVE = "no positive in this split"
NO_NEGATIVE = "no negative in this split"


Rows = Float[np.ndarray, " rows"]
"""One number per row."""
Known = Float[np.ndarray, " known"]
"""One number per row with a known label."""
Table = Float[np.ndarray, "rows findings"]
"""One number per row and finding."""
Needs = Literal["a label", "a positive", "a positive and a negative"]


class Value(NamedTuple):
    """The value of a metric, or the reason why it has none: an undefined metric is never reported as 0 or 0.5."""

    value: float | None
    why: str | None = None


def known_rows(truth: Rows, score: Rows, weight: Rows | None = None) -> tuple[Known, Known, Known]:
    """Truth, score and weight of the rows whose label is known, in float64.

    Raises:
        DataError: a score is not finite, or a weight is negative.
    """
    known = ~np.isnan(truth)
    weight = np.ones(len(truth)) if weight is None else weight
    truth, score, weight = (np.asarray(values[known], np.float64) for values in (truth, score, weight))
    if not np.isfinite(score).all():
        raise DataError(f"labeled row {np.flatnonzero(~np.isfinite(score))[0]}: the score is not a finite number.")
    if not (weight >= 0).all():
        raise DataError(f"labeled row {np.flatnonzero(~(weight >= 0))[0]}: the weight is negative or not a number.")
    return truth, score, weight


def undefined(positive: Rows, weight: Rows, needs: Needs) -> str | None:
    """Why a metric is undefined on these rows, or None."""
    if not weight.sum() > 0:
        return NO_LABEL
    if needs != "a label" and not weight @ positive > 0:
        return NO_POSITIVE
    if needs == "a positive and a negative" and not weight @ (1 - positive) > 0:
        return NO_NEGATIVE
    return None


def descending(score: Rows) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " distinct"]]:
    """Order of falling scores, and in that order the last position of each distinct score."""
    order = np.argsort(-score, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
