"""Difference of two arms over several seeds and the same test patients: interval, p-value and detectable difference.

Seeds and patients are both a sample. The test statistic is that of multi-reader multi-case studies (Obuchowski &
Rockette 1995) with the degrees of freedom of Hillis (2007): runs take the place of readers, patients that of cases.
For arms a and b with S seeds each,

    D  = mean over seeds of (M_a - M_b)                       M: tail mAP on all test patients
    V  = C + U_a + U_b
    C  = max(0, c_aa + c_bb - 2 c_ab)                         effect of other patients
    U_a = max(s_a², v_a - c_aa) / S                           effect of other seeds
    ν  = V² / (C² / ν_C + (U_a² + U_b²) / (S - 1))            Satterthwaite
    interval: D ± t(ν) √V

c_ab is the mean covariance between a run of a and a run of b (c_aa: two different runs of a), v_a the mean variance of
one run of a, all over the paired patient bootstrap, in which all runs are evaluated on the same replicates. s_a² is the
variance between the seeds of a. It already includes the interaction of run and patient (v_a - c_aa), which is why that
is a lower bound and not a further term. Resampling three seeds instead has ten distinct outcomes, two thirds of the
variance, and no t. ν_C is that of a mean over findings, `trcgl.metrics.intervals.freedom_of_mean`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, t

from trcgl.metrics.intervals import LEAST, LEVEL

POWER = 0.8
"""Power with which a detectable difference is found."""


@dataclass(frozen=True)
class Runs:
    """One metric of the runs of one arm."""

    seeds: tuple[int, ...]
    values: Float[np.ndarray, " seeds"]  # on all test patients
    replicates: Float[np.ndarray, "seeds replicates"]  # on every resample of patients, NaN where undefined

    def at(self, seeds: Sequence[int]) -> "Runs":
        """A copy with only the runs of the given seeds, in their order."""
        places = [self.seeds.index(seed) for seed in seeds]
        return Runs(tuple(seeds), self.values[places], self.replicates[places])


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of two means, with the parts of its interval."""

    value: float
    error: float | None  # standard error √V
    freedom: float  # ν
    why: str | None  # the reason if there is no standard error
    seeds: tuple[int, ...]
    dropped: int  # replicates that left the metric undefined

    def interval(self, alpha: float = 1 - LEVEL) -> tuple[float, float] | None:
        """The interval at level 1 - alpha."""
        if self.error is None:
            return None
        reach = float(t.isf(alpha / 2, self.freedom)) * self.error
        return self.value - reach, self.value + reach

    def p(self) -> float | None:
        """Two-sided p-value of no difference."""
        if self.error is None:
            return None
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * t.sf(abs(self.value) / self.error, self.freedom))

    def detectable(self, alpha: float = 1 - LEVEL) -> float | None:
        """The difference that a study of this size detects with a power of 80 %: at alpha = 0.05, 2.8 standard errors.

        The standard error is the half-length of the interval divided by the normal quantile, so that it grows if few
        seeds widen the interval.
        """
        ends, reach = self.interval(alpha), float(norm.isf(alpha / 2))
        return (1 + float(norm.ppf(POWER)) / reach) * (ends[1] - ends[0]) / 2 if ends else None


def mean(runs: Runs, patients: float) -> Estimate:
    """Mean of a metric over the seeds of one arm; `patients` is ν_C."""
    return _estimate([runs], float(runs.values.mean()), patients)


def difference(a: Runs, b: Runs, patients: float) -> Estimate | None:
    """Mean difference `a` - `b` over the seeds that both arms have, None if they share no seed; `patients` is ν_C."""
    seeds = tuple(seed for seed in a.seeds if seed in b.seeds)
    if not seeds:
        return None
    a, b = a.at(seeds), b.at(seeds)
    return _estimate([a, b], float((a.values - b.values).mean()), patients)


def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and standard deviation of the defined values, and all values."""
    defined = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(defined)) if defined else None,
        "sd": float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        "values": list(values),
    }


@dataclass(frozen=True)
class Holm:
    """Result of Holm's procedure for one of several differences."""

    p: float  # adjusted
    alpha: float  # level at which its interval leaves out 0 exactly where p < 0.05


def holm(p: Mapping[Any, float], alpha: float = 1 - LEVEL) -> dict[Any, Holm]:
    """Holm's step-down procedure (1979), with intervals that agree with its decisions.

    The i-th smallest of m p-values is tested at alpha / (m - i + 1), until the first that fails; all later ones have
    the level of that one (Strassburger & Bretz 2008).
    """
    order = sorted(p, key=lambda name: p[name])
    found, largest, stopped = {}, 0.0, None
    for place, name in enumerate(order):
        step = len(order) - place
        largest = max(largest, min(1.0, step * p[name]))
        if stopped is None and step * p[name] > alpha:
            stopped = alpha / step
        found[name] = Holm(largest, stopped or alpha / step)
    return found


def _variance(runs: Runs) -> tuple[float, float]:
    """c_aa, the covariance of two runs of an arm over patients, and U_a, the variance of their mean over seeds."""
    seeds, covariance = len(runs.values), np.cov(_kept(runs.replicates))
    shared, single = float(covariance[~np.eye(seeds, dtype=bool)].mean()), float(covariance.diagonal().mean())
    return shared, max(float(runs.values.var(ddof=1)), single - shared) / seeds


def _kept(replicates: Float[np.ndarray, "runs replicates"]) -> Float[np.ndarray, "runs kept"]:
    return replicates[:, ~np.isnan(replicates).any(axis=0)]


def _estimate(arms: Sequence[Runs], value: float, patients: float) -> Estimate:
    """The estimate of one arm, or of the difference of two that have the same seeds."""
    seeds, replicates = arms[0].seeds, np.concatenate([arm.replicates for arm in arms])
    together = _kept(replicates)
    kept = together.shape[1]
    dropped = replicates.shape[1] - kept
    why = None
    if len(seeds) < 2:
        why = "one seed: the effect of other seeds is unknown"
    elif patients <= 0:
        why = "fewer than two positive patients"
    elif kept < LEAST:
        why = f"only {kept} of {replicates.shape[1]} resamples of patients leave every finding defined"
    if why:
        return Estimate(value, None, 0.0, why, seeds, dropped)
    parts = [_variance(arm) for arm in arms]
    across = float(np.cov(together)[: len(seeds), len(seeds) :].mean()) if len(arms) == 2 else 0.0
    shared = max(0.0, sum(shared for shared, _ in parts) - 2 * across)
    whole = shared + sum(own for _, own in parts)
    below = shared**2 / patients + sum(own**2 / (len(seeds) - 1) for _, own in parts)
    return Estimate(value, float(np.sqrt(whole)), whole**2 / below if below else np.inf, None, seeds, dropped)
