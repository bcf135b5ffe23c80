"""What a metric is: one entry of the registry, defined in one file of this package.

A metric is called with the truth (1 present, 0 absent, NaN unknown), the scores (higher means more likely present) and
the weights (1 where None) of the rows of one finding. It raises `DataError` where a score is not finite or a weight is
negative (`rows.known_rows`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from trcgl.metrics.intervals import Interval, Replicates, interval
from trcgl.metrics.resampling import Resampled
from trcgl.metrics.rows import Needs, Rows, Value, known_rows, undefined


@dataclass(frozen=True)
class Metric:
    """A metric of one finding, between 0 and 1.

    `value` is a function (truth, score, weight) or, with `needs_threshold`, (truth, score, weight, threshold) of rows
    whose labels are known and that have what the metric `needs`. `replicates` is the same metric on each bootstrap
    replicate. `decisive` is a function (truth, score, threshold) that marks the rows on which the precision of the
    estimate depends: the effective number of their patients less one is the ν of the interval.

    A `ranking` metric depends only on the order of the scores, so that it is the same for logits and probabilities;
    `trcgl compare` and validation during training use these metrics.
    """

    name: str  # key in the evaluation JSON, for instance "AP"; the mean over findings is called "m" + name
    label: str  # for people, for instance "average precision"
    note: str  # half a sentence that explains the value on the report page
    value: Callable[..., Value]
    replicates: Callable[[Resampled], Replicates]
    interval: Callable[..., Interval] = interval  # 95 % interval from (value, replicates, degrees of freedom)
    ranking: bool = False
    needs: Needs = "a positive"  # without it the metric has no value, but a reason
    needs_threshold: bool = False
    higher_is_better: bool = True
    order: int = 100  # place in the tables; lower numbers come first, equal ones by name
    decisive: Callable[..., Bool[np.ndarray, " rows"]] = lambda truth, score, threshold: truth == 1

    def __call__(
        self, truth: Rows, score: Rows, weight: Rows | None = None, threshold: float | None = 0.5, **settings: Any
    ) -> Value:
        """The value on one finding; `settings` are further arguments of `value`."""
        positive, score, weight = known_rows(truth, score, weight)
        if why := undefined(positive, weight, self.needs):
            return Value(None, why)
        return self.value(positive, score, weight, *([threshold] if self.needs_threshold else []), **settings)
