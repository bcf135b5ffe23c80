"""95 % intervals from bootstrap replicates, with correct coverage from twenty positive patients on.

The rule was chosen by simulation (`benchmarks/coverage.py`; the measured coverage is in docs/reading-the-report.md).
The number of positive patients determines how wide an interval must be, so the standard error on the logit scale is
multiplied by Student's t with ν degrees of freedom, where ν + 1 is the effective number of positive patients.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit
from scipy.stats import t

from trcgl.metrics.rows import Rows

LEVEL = 0.95
FEW = 20
"""A finding with fewer positive patients than this is marked: its interval is not reliable."""
LEAST = 100
"""Fewer defined replicates than this give no interval."""
DECIMALS = 12
"""A sum of floats that misses 1 by less than this is 1: it has no logit."""
METHOD = (
    "logit(estimate) ± t(ν) · standard deviation of the logits of the replicates; ν + 1 = effective number of "
    "positive patients (PPV: of patients called positive); Satterthwaite's ν for means. Calibration error: "
    "percentiles, shifted to the estimate."
)

Replicates = Float[np.ndarray, " replicates"]
"""A metric, or a mean of it, on each bootstrap replicate; NaN where undefined."""
Samples = Float[np.ndarray, "replicates findings"]
"""A metric of each finding on each bootstrap replicate; NaN where undefined."""
PerFinding = Float[np.ndarray, " findings"]


class Interval(NamedTuple):
    """Lower and upper end, or the reason why there is none; and how many replicates were left out as undefined."""

    ends: tuple[float, float] | None
    why: str | None
    dropped: int


def effective_patients(truth: Rows, owner: Int[np.ndarray, " rows"], weight: Rows | None = None) -> float:
    """(Σ m)² / Σ m² over patients, m a patient's weight of positive images (Kish 1965); 0 without a positive.

    Twenty positive patients of whom one has half of the images count less than twenty with one image each.
    """
    present = truth == 1
    mass = np.bincount(owner[present], None if weight is None else weight[present])
    return float(mass.sum() ** 2 / (mass @ mass)) if mass.any() else 0.0


def freedom_of_mean(replicates: Samples, freedom: PerFinding) -> float:
    """ν of a mean over findings (Satterthwaite 1946): (Σ s²)² / Σ (s⁴ / ν), s² the variance of a finding's replicates.

    It is 0 (no interval) if a finding has a single positive patient, because resamples of one patient do not vary.
    """
    if not len(freedom) or freedom.min() <= 0:
        return 0.0
    defined = replicates[~np.isnan(replicates).any(axis=1)]
    variance = defined.var(axis=0, ddof=1) if len(defined) > 1 else np.zeros(len(freedom))
    below = (variance**2 / freedom).sum()
    return float(variance.sum() ** 2 / below if below else freedom.min())


def interval(value: float, replicates: Replicates, freedom: float) -> Interval:
    """The interval of a metric between 0 and 1, or of a mean of it over findings.

    `value` is the estimate on the data themselves; `freedom` is ν: the effective number of positive patients less one,
    or for a mean `freedom_of_mean`.
    """
    kept, refused = _defined(replicates, freedom)
    if refused:
        return refused
    tail = (1 - LEVEL) / 2
    rounded, kept = round(value, DECIMALS), kept.round(DECIMALS)
    if kept.min() == kept.max() and rounded in (0, 1):
        # No replicate differs: the exact binomial bound for as many successes (or failures) as there are patients.
        exact = tail ** (1 / (freedom + 1))
        ends = (exact, 1.0) if rounded == 1 else (0.0, 1 - exact)
    else:
        # A replicate at 0 or 1 has no logit: it counts as half way to the nearest that has one.
        inside = kept[(kept > 0) & (kept < 1)]
        edges = (inside.min() / 2, 1 - (1 - inside.max()) / 2) if len(inside) else (0.25, 0.75)
        center, spread = logit(np.clip(value, *edges)), logit(np.clip(kept, *edges)).std(ddof=1)
        reach = t.isf(tail, freedom) * spread
        ends = min(expit(center - reach), value), max(expit(center + reach), value)
    return Interval((float(ends[0]), float(ends[1])), None, len(replicates) - len(kept))


def error_interval(value: float, replicates: Replicates, freedom: float) -> Interval:
    """The interval of a calibration error: percentiles, moved so that their median is the estimate.

    Resampling itself raises a sum of absolute gaps; unmoved, the interval could lie wholly above the estimate.
    """
    kept, refused = _defined(replicates, freedom)
    if refused:
        return refused
    low, middle, high = np.quantile(kept, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    ends = max(0.0, value + low - middle), min(1.0, value + high - middle)
    return Interval((float(ends[0]), float(ends[1])), None, len(replicates) - len(kept))


def difference_interval(value: float, replicates: Replicates, freedom: float) -> Interval:
    """The interval of a paired difference: as `interval`, but on the plain scale."""
    kept, refused = _defined(replicates, freedom)
    if refused:
        return refused
    reach = t.isf((1 - LEVEL) / 2, freedom) * kept.std(ddof=1)
    return Interval((float(value - reach), float(value + reach)), None, len(replicates) - len(kept))


def _defined(replicates: Replicates, freedom: float) -> tuple[Float[np.ndarray, " kept"], Interval | None]:
    kept = replicates[~np.isnan(replicates)]
    dropped = len(replicates) - len(kept)
    if freedom <= 0:
        return kept, Interval(None, "fewer than two positive patients: no interval", dropped)
    if len(kept) < LEAST:
        why = f"only {len(kept)} of {len(replicates)} replicates are defined: no interval"
        return kept, Interval(None, why, dropped)
    return kept, None
