"""What a metric is: one entry of the registry, defined in one file of this package.

Every metric takes the truth (1 present, 0 absent, NaN unknown), the scores (higher means more likely present) and the
weights (1 where None) of the rows of one finding. It raises `DataError` where a score is not finite or a weight is
negative (`rows.known_rows`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from trcgl.metrics.intervals import Interval, interval
from trcgl.metrics.resampling import Resampled
from trcgl.metrics.rows import Value


@dataclass(frozen=True)
class Metric:
    """A metric of one finding, between 0 and 1.

    Args:
        name: key in the evaluation JSON, for instance "AP". The mean over findings is called "m" + name.
        label: name for people, for instance "average precision".
        note: half a sentence that explains the value on the report page.
        value: function (truth, score, weight) or, with `needs_threshold`, (truth, score, weight, threshold).
        replicates: the same metric on each bootstrap replicate, NaN where undefined.
        interval: function (value, replicates, degrees of freedom) that gives the 95 % interval.
        ranking: whether the metric depends only on the order of the scores, so that it is the same for logits and
            probabilities; `trcgl compare` and validation during training use these metrics.
        needs_threshold: whether a score must be compared with a threshold.
        higher_is_better: the direction of improvement.
        order: place in the tables; lower numbers come first.
        decisive: function (truth, score, threshold) that marks the rows on which the precision of the estimate
            depends; by default the positives. The effective number of their patients less one is the ν of the
            interval.
    """

    name: str
    label: str
    note: str
    value: Callable[..., Value]
    replicates: Callable[[Resampled], Float[np.ndarray, " replicates"]]
    interval: Callable[..., Interval] = interval
    ranking: bool = False
    needs_threshold: bool = False
    higher_is_better: bool = True
    order: int = 100
    decisive: Callable[..., Bool[np.ndarray, " rows"]] = lambda truth, score, threshold: truth == 1

    def __call__(
        self,
        truth: Float[np.ndarray, " rows"],
        score: Float[np.ndarray, " rows"],
        weight: Float[np.ndarray, " rows"] | None = None,
        threshold: float | None = None,
    ) -> Value:
        """The value on one finding."""
        return self.value(truth, score, weight, *([threshold] if self.needs_threshold else []))
