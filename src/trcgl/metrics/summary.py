"""Metrics of plain arrays, per finding and as means over findings, with 95 % intervals over patients."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from trcgl.core.errors import DataError
from trcgl.metrics.bootstrap import patient_bootstrap
from trcgl.metrics.intervals import (
    FEW,
    Interval,
    PerFinding,
    Samples,
    effective_patients,
    error_interval,
    freedom_of_mean,
    interval,
)
from trcgl.metrics.metric import Metric
from trcgl.metrics.registry import METRICS
from trcgl.metrics.rows import Rows, Table, Value


@dataclass(frozen=True)
class Measured:
    """Metrics of every finding, and the same metrics on every bootstrap replicate, by name."""

    truth: Table  # 1 present, 0 absent, NaN unknown
    owner: Int[np.ndarray, " rows"]  # number of the patient of every row
    metrics: dict[str, Metric]
    found: dict[str, tuple[Value, ...]]  # value of every finding
    replicates: dict[str, Samples]
    freedom: dict[str, PerFinding]  # ν of the interval of every finding: effective number of patients less one

    def values(self, name: str) -> PerFinding:
        """A metric of every finding, NaN where undefined."""
        return np.array([value.value for value in self.found[name]], np.float64)

    def positive_patients(self, column: int) -> int:
        """Number of patients with the finding."""
        return len(np.unique(self.owner[self.truth[:, column] == 1]))

    def finding(self, column: int) -> dict[str, Any]:
        """Counts and metrics of one finding, each with its interval or the reason why it has none."""
        truth, patients = self.truth[:, column], self.positive_patients(column)
        return {
            "positives": int((truth == 1).sum()),
            "positive_patients": patients,
            "known": int((~np.isnan(truth)).sum()),
            "few": patients < FEW,
            **{name: self._metric(name, column) for name in self.metrics},
        }

    def means(self, columns: Sequence[int]) -> dict[str, Any]:
        """The mean of every metric over some findings; `few` counts those with fewer than 20 positive patients."""
        columns = list(columns)
        few = {column for column in columns if self.positive_patients(column) < FEW}
        return {
            f"m{name}": mean_over_findings(
                self.values(name)[columns],
                self.replicates[name][:, columns],
                self.freedom[name][columns],
                metric.interval,
            )
            | {"few": sum(column in few and self.found[name][column].value is not None for column in columns)}
            for name, metric in self.metrics.items()
        }

    def _metric(self, name: str, column: int) -> dict[str, Any]:
        value, why = self.found[name][column]
        if value is None:
            return {"value": None, "ci": None, "why": why}
        replicates, freedom = self.replicates[name][:, column], float(self.freedom[name][column])
        return with_interval(value, self.metrics[name].interval(value, replicates, freedom))


def measure(
    truth: Table,
    score: Table,
    patient: np.ndarray,
    weight: Rows | None = None,
    thresholds: Sequence[float] | None = None,
    *,
    metrics: Sequence[Metric] = tuple(METRICS.values()),
    replicates: int = 2000,
    seed: int = 0,
) -> Measured:
    """Compute metrics of every finding and their bootstrap replicates.

    Scores are probabilities, or any monotone function of them where all metrics are ranking metrics. The same seed
    resamples the same patients for every run on these images.
    """
    truth, score = truth.astype(np.float64), score.astype(np.float64)
    _, owner = np.unique(patient, return_inverse=True)
    columns = range(truth.shape[1])
    cuts = list(thresholds) if thresholds is not None else [None] * len(columns)
    found, freedom = {}, {}
    for metric in metrics:
        rows = [(truth[:, column], score[:, column]) for column in columns]
        found[metric.name] = tuple(metric(*row, weight, cut) for row, cut in zip(rows, cuts, strict=True))
        decisive = [metric.decisive(*row, cut).astype(np.float64) for row, cut in zip(rows, cuts, strict=True)]
        freedom[metric.name] = np.array([effective_patients(marked, owner, weight) - 1 for marked in decisive])
    samples = patient_bootstrap(
        truth, score, owner, weight, metrics=metrics, thresholds=thresholds, replicates=replicates, seed=seed
    )
    return Measured(truth, owner, {metric.name: metric for metric in metrics}, found, samples, freedom)


def evaluate(
    truth: ArrayLike,
    score: ArrayLike,
    patient_ids: Iterable[Any],
    findings: Sequence[str] | None = None,
    thresholds: Mapping[str, float] | Sequence[float] | float | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluate scores on plain arrays or lists, with 95 % intervals over patients.

    Args:
        truth: (rows,) or (rows, findings); 1 present, 0 absent, NaN or None unknown.
        score: the same shape; probabilities.
        patient_ids: (rows,); images of one patient are resampled together.
        findings: names of the columns; "finding 1", "finding 2", ... where None.
        thresholds: one for each finding, or one for all; without them F1 and the positive predictive value are left
            out.
        replicates: number of patient-bootstrap replicates.
        seed: random seed of the bootstrap.

    Returns:
        `images`, `patients`, `overall` (means over the findings: "mAP", "mAUC", ...) and `findings` (name to counts and
        metrics). Every metric is `{"value", "ci", "dropped"}`; where the value or the interval is None, `why` gives the
        reason.

    Raises:
        DataError: the shapes differ, there is no row, a label is not 0, 1 or unknown, a score is not a probability, or
            a finding has no threshold.

    Example:
        >>> from trcgl.metrics import evaluate
        >>> result = evaluate([1, 0, 1, 0], [0.9, 0.2, 0.7, 0.4], ["a", "b", "c", "d"], replicates=200)
        >>> result["findings"]["finding 1"]["AUC"]["value"]
        1.0
    """
    labels, scores = (_columns(values, name) for values, name in ((truth, "truth"), (score, "score")))
    patients = np.asarray([str(patient) for patient in patient_ids])
    if labels.shape != scores.shape or len(patients) != len(labels):
        raise DataError(
            f"truth is {labels.shape}, score {scores.shape}, and there are {len(patients)} patient_ids. Give one row "
            "per image and one column per finding."
        )
    if not len(labels):
        raise DataError("there is no image to evaluate.")
    if not (np.isnan(labels) | (labels == 0) | (labels == 1)).all():
        raise DataError("truth: a label is not 1 (present), 0 (absent) or NaN (unknown).")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise DataError("score: a value is not between 0 and 1. Give probabilities, for instance sigmoid(logits).")
    names = list(findings or (f"finding {column + 1}" for column in range(labels.shape[1])))
    if len(set(names)) != labels.shape[1]:
        raise DataError(f"there are {len(set(names))} names of findings for {labels.shape[1]} columns.")
    cuts = _thresholds(thresholds, names)
    metrics = [metric for metric in METRICS.values() if cuts is not None or not metric.needs_threshold]
    measured = measure(labels, scores, patients, None, cuts, metrics=metrics, replicates=replicates, seed=seed)
    return {
        "images": len(labels),
        "patients": int(measured.owner.max()) + 1,
        "overall": measured.means(range(len(names))),
        "findings": {name: measured.finding(column) for column, name in enumerate(names)},
    }


def mean_over_findings(
    values: PerFinding, samples: Samples, freedom: PerFinding, rule: Callable[..., Interval] = interval
) -> dict[str, Any]:
    """The mean of one metric over the findings where it is defined, and the interval of that mean.

    Replicates resample the same patients for every finding, so findings that share patients are not treated as
    independent. A replicate that leaves one of the findings undefined is dropped.
    `freedom` is the effective number of patients of each finding less one, and `rule` makes the interval.
    """
    defined = ~np.isnan(values)
    if not defined.any():
        why = "undefined for every finding" if len(values) else "no finding in this group"
        return {"value": None, "ci": None, "findings": 0, "why": why}
    value = float(values[defined].mean())
    samples, freedom = samples[:, defined], freedom[defined]
    # The width of an error interval does not depend on ν, so one finding with two patients is enough.
    patients = float(np.maximum(freedom, 0).sum() if rule is error_interval else freedom_of_mean(samples, freedom))
    found = rule(value, samples.mean(axis=1), patients)
    if patients <= 0:
        found = Interval(None, f"a finding among them has {found.why}", 0)
    return with_interval(value, found) | {"findings": int(defined.sum())}


def with_interval(value: float, found: Interval) -> dict[str, Any]:
    """A value and its interval as stored in JSON."""
    stored: dict[str, Any] = {"value": value, "ci": list(found.ends) if found.ends else None, "dropped": found.dropped}
    return stored | ({"why": found.why} if found.why else {})


def value_text(stored: Mapping[str, Any], decimals: int = 3) -> str:
    """A stored value with its interval, for instance `0.812 [0.790, 0.833]`, or the reason why there is none."""
    if stored["value"] is None:
        return stored["why"]
    ends = [f"{end:.{decimals}f}" for end in stored["ci"] or ()]
    return f"{stored['value']:.{decimals}f}" + (f" [{', '.join(ends)}]" if ends else "")


def _columns(values: ArrayLike, name: str) -> Table:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: not an array of numbers ({error}).") from error
    if array.ndim not in (1, 2):
        raise DataError(f"{name} has {array.ndim} dimensions. Give (rows,) or (rows, findings).")
    return array.reshape(len(array), -1) if array.size else array.reshape(len(array), 1)


def _thresholds(given: Mapping[str, float] | Sequence[float] | float | None, names: list[str]) -> list[float] | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        if missing := [name for name in names if name not in given]:
            raise DataError(f"thresholds: {missing[0]} has none.")
        return [float(given[name]) for name in names]
    cuts = np.broadcast_to(np.asarray(given, np.float64), len(names)) if np.ndim(given) == 0 else np.asarray(given)
    if len(cuts) != len(names):
        raise DataError(f"there are {len(cuts)} thresholds for {len(names)} findings.")
    return [float(cut) for cut in cuts]
