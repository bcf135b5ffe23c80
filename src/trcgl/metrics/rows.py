"""The rows of one finding: known labels, the order of the scores, and the reasons why a metric has no value."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from trcgl.core.errors import DataError

NO_LABEL = "no known label"
NO_POSITIVE = "no positive in this split"
NO_NEGATIVE = "no negative in this split"


class Value(NamedTuple):
    """The value of a metric, or the reason why it has none: an undefined metric is never reported as 0 or 0.5."""

    value: float | None
    why: str | None = None


def known_rows(
    truth: Float[np.ndarray, " rows"],
    score: Float[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"] | None = None,
) -> tuple[Float[np.ndarray, " known"], Float[np.ndarray, " known"], Float[np.ndarray, " known"]]:
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


def undefined(
    positive: Float[np.ndarray, " rows"], weight: Float[np.ndarray, " rows"], *, negatives: bool = False
) -> str | None:
    """Why a metric that needs positives (and negatives) is undefined on these rows, or None."""
    if not weight.sum() > 0:
        return NO_LABEL
    if not weight @ positive > 0:
        return NO_POSITIVE
    if negatives and not weight @ (1 - positive) > 0:
        return NO_NEGATIVE
    return None


def descending(score: Float[np.ndarray, " rows"]) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " distinct"]]:
    """Order of falling scores, and in that order the last position of each distinct score."""
    order = np.argsort(-score, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
