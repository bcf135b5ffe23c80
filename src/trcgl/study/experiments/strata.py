"""Strata of a finding's test images: lesions small or large, faint or strong, with or without their usual company.

AP depends on prevalence. The positives of every stratum are therefore weighted so that its odds of prevalence are those
of the finding among all images: strata differ in which images they hold, not in how rare the finding is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy.special import logit

from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.labels import LabelSpace
from trcgl.metrics.auroc import AUROC
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.bootstrap import patient_bootstrap, resample_patients
from trcgl.metrics.intervals import effective_patients, freedom_of_mean
from trcgl.metrics.metric import Metric

FEWEST = 5
"""Fewest positives of a stratum."""
PARTS = {
    "area": ("small", "middle", "large"),
    "contrast": ("faint", "middle", "strong"),
    "partner": ("with", "without"),
    "redrawn": ("with", "without", "usual", "counter"),
}
"""Kind to strata: thirds of a finding's positives by area and by contrast of the lesion; images with and without the
partner, as they come; the same images redrawn, all with it, all without it, as usual (positives with it, negatives
without it) and counter-stereotypical (positives without it, negatives with it)."""
GAPS = {
    "area": ("large", "small"),
    "contrast": ("strong", "faint"),
    "partner": ("with", "without"),
    "redrawn": ("usual", "counter"),
}
"""The gap of a kind is the first of these less the second."""
SURE = 1e-6
"""Scores are kept so far from 0 and 1 before their log-odds are taken."""

Rows = Float[np.ndarray, " rows"]


@dataclass(frozen=True)
class Partner:
    """The head finding that a tail finding usually comes with.

    Args:
        finding: the head finding h.
        share: P(h | tail finding).
        lift: P(h | tail finding) / P(h).
    """

    finding: str
    share: float
    lift: float


@dataclass(frozen=True)
class Stratum:
    """One finding in one stratum.

    Args:
        kind: in `PARTS`.
        part: of the kind.
        finding: its name.
        truth: 1 present, 0 absent, NaN where the image is unknown or outside the stratum.
        score: of the finding.
        weight: how much an image counts.
    """

    kind: str
    part: str
    finding: str
    truth: Rows
    score: Rows
    weight: Rows

    @property
    def positives(self) -> int:
        """How many there are."""
        return int((self.truth == 1).sum())


@dataclass(frozen=True)
class Shift:
    """What the partner does to the log-odds of a finding in images without the finding: a difference of two means.

    Args:
        kind: partner or redrawn.
        finding: its name.
        values: log-odds with the partner, and without.
        weights: how much each image counts in either mean.
    """

    kind: str
    finding: str
    values: tuple[Rows, Rows]
    weights: tuple[Rows, Rows]


@dataclass(frozen=True)
class Measured:
    """Metrics of one run by stratum; keys are `kind/part/metric`, with `gap` for a part, and `kind/shift`.

    Args:
        values: means over the findings of the kind.
        findings: the same for each finding.
        freedom: degrees of freedom that patients leave to a value.
        draws: means over findings on every draw of patients, NaN where undefined.
    """

    values: dict[str, float]
    findings: dict[str, dict[str, float]]
    freedom: dict[str, float]
    draws: dict[str, Float[np.ndarray, " replicates"]] = field(default_factory=dict)


def usual_partners(train: pl.DataFrame, space: LabelSpace) -> dict[str, Partner | str]:
    """Every tail finding's head finding of the highest lift, or the reason why it has none.

    Args:
        train: rows of the training split; the partner is never looked up in test.
        space: with groups.
    """
    told = counts(train, space)
    conditional, share = told.conditional(), told.positives / np.maximum(told.labeled, 1)
    heads = [space.index(one) for one in space.in_group("head") if one != space.normal]
    partners: dict[str, Partner | str] = {}
    for finding in space.in_group("tail"):
        row = conditional[space.index(finding)]
        lift = {one: row[one] / share[one] for one in heads if share[one] > 0}
        best = max(lift, key=lambda one: lift[one], default=None)
        if best is None or lift[best] <= 1:
            partners[finding] = "no head finding comes with it in train more often than by chance"
        else:
            partners[finding] = Partner(space.findings[best], float(row[best]), float(lift[best]))
    return partners


def thirds(truth: Rows, value: Rows) -> tuple[Bool[np.ndarray, " rows"], ...]:
    """The positives of the lowest, the middle and the highest values, as many of each; at most two are left over.

    Args:
        truth: 1 present, 0 absent, NaN unknown.
        value: NaN where unknown; such a positive is in no third.
    """
    known = np.flatnonzero((truth == 1) & ~np.isnan(value))
    order = known[np.argsort(value[known], kind="stable")]
    size, spare = divmod(len(order), 3)
    start = size + spare // 2
    places = (order[:size], order[start : start + size], order[len(order) - size :])
    return tuple(np.isin(np.arange(len(truth)), one) for one in places)


def stratum(
    kind: str, part: str, finding: str, truth: Rows, score: Rows, weight: Rows, inside: Bool[np.ndarray, " rows"]
) -> Stratum:
    """A stratum whose positives are weighted so that the finding is as prevalent in it as in all images."""
    own = np.where(inside, truth, np.nan)
    odds = weight[truth == 1].sum() / weight[truth == 0].sum()
    there = weight[own == 1].sum() / weight[own == 0].sum()
    return Stratum(kind, part, finding, own, score, np.where(own == 1, weight * odds / there, weight))


def by_lesion(
    kind: str, finding: str, truth: Rows, score: Rows, weight: Rows, value: Rows
) -> tuple[Stratum, ...] | str:
    """Thirds of the positives by a property of the lesion, each against all negatives; or why there are none."""
    chosen = thirds(truth, value)
    if chosen[0].sum() < FEWEST:
        known = int(((truth == 1) & ~np.isnan(value)).sum())
        return f"{known} positives of known {kind}, {3 * FEWEST} are needed"
    return tuple(
        stratum(kind, part, finding, truth, score, weight, inside | (truth == 0))
        for part, inside in zip(PARTS[kind], chosen, strict=True)
    )


def by_partner(
    finding: str, truth: Rows, score: Rows, weight: Rows, head: Rows
) -> tuple[tuple[Stratum, Stratum], Shift] | str:
    """Images with the partner and images without it, as they come; or why they cannot be compared."""
    few = {
        f"{int(((truth == present) & (head == there)).sum())} {word} {'with' if there else 'without'} the partner"
        for present, word in ((1, "positives"), (0, "negatives"))
        for there in (1, 0)
        if ((truth == present) & (head == there)).sum() < FEWEST
    }
    if few:
        return f"{', '.join(sorted(few))}; {FEWEST} are needed"
    both = tuple(
        stratum("partner", part, finding, truth, score, weight, head == there)
        for part, there in zip(PARTS["partner"], (1, 0), strict=True)
    )
    odds = log_odds(score)
    negatives = tuple(np.where((truth == 0) & (head == there), weight, 0.0) for there in (1, 0))
    return (both[0], both[1]), Shift("partner", finding, (odds, odds), (negatives[0], negatives[1]))


def redrawn(
    finding: str, truth: Rows, score: Rows, weight: Rows, head: Rows, flipped: Rows
) -> tuple[tuple[Stratum, ...], Shift] | str:
    """All images with the partner and without it, by turns; what an image is not was redrawn.

    Args:
        finding: its name.
        truth: of the finding.
        score: of every image as it is.
        weight: how much an image counts.
        head: whether it has the partner.
        flipped: score of the same image redrawn with the partner if it has none, without it if it has.

    Returns:
        The strata and the shift, or why there are too few images.
    """
    if (few := min((truth == 1).sum(), (truth == 0).sum())) < FEWEST:
        return f"{few} images with or without the finding, {FEWEST} are needed"
    there, gone = np.where(head == 1, score, flipped), np.where(head == 1, flipped, score)
    positive = truth == 1
    scores = (there, gone, np.where(positive, there, gone), np.where(positive, gone, there))
    made = tuple(
        Stratum("redrawn", part, finding, truth, one, weight)
        for part, one in zip(PARTS["redrawn"], scores, strict=True)
    )
    negatives = np.where(truth == 0, weight, 0.0)
    return made, Shift("redrawn", finding, (log_odds(there), log_odds(gone)), (negatives, negatives))


def log_odds(score: Rows) -> Rows:
    """ln(p / (1 - p))."""
    return logit(np.clip(np.asarray(score, np.float64), SURE, 1 - SURE))


def measure(
    strata: Sequence[Stratum],
    shifts: Sequence[Shift],
    owner: Int[np.ndarray, " rows"],
    *,
    replicates: int,
    seed: int,
) -> Measured:
    """AP and AUROC of every stratum, gaps and shifts, as means over the findings of their kind.

    Args:
        strata: of one run; a finding of a kind has all of its parts.
        shifts: of the same run.
        owner: number of the patient of every image, all of 0 to the largest.
        replicates: draws of patients; 0 draws none.
        seed: of the draws, as in `trcgl.metrics.bootstrap`.
    """
    found = Measured({}, {}, {})
    if not strata:
        return found
    point, drawn = _metrics(strata, owner, replicates, seed)
    for kind in dict.fromkeys(one.kind for one in strata):
        places = {part: _places(strata, kind, part) for part in PARTS[kind]}
        more, less = GAPS[kind]
        names = [strata[place].finding for place in places[more]]
        freedom = {
            part: np.array([effective_patients(strata[one].truth, owner, strata[one].weight) - 1 for one in of])
            for part, of in places.items()
        }
        freedom["gap"] = np.minimum(freedom[more], freedom[less])
        for metric in ("AP", "AUC"):
            values = {part: point[metric][of] for part, of in places.items()}
            draws = {part: drawn[metric][:, of] for part, of in places.items()}
            values["gap"], draws["gap"] = values[more] - values[less], draws[more] - draws[less]
            for part in values:
                patients = freedom_of_mean(draws[part], freedom[part])
                _note(found, f"{kind}/{part}/{metric}", names, values[part], draws[part], patients)
    for kind in dict.fromkeys(one.kind for one in shifts):
        own = [one for one in shifts if one.kind == kind]
        shifted = np.array([_means(one, np.ones(len(owner))) for one in own])
        redone = np.stack([_shift_draws(one, owner, replicates, seed) for one in own], axis=1)
        patients = min(effective_patients(np.ones_like(one), owner, one) for of in own for one in of.weights) - 1
        _note(found, f"{kind}/shift", [one.finding for one in own], shifted, redone, patients)
    return found


def _note(
    found: Measured, key: str, names: Iterable[str], values: np.ndarray, draws: np.ndarray, freedom: float
) -> None:
    found.values[key] = float(values.mean())
    found.findings[key] = dict(zip(names, map(float, values), strict=True))
    found.freedom[key] = float(freedom)
    if len(draws):
        found.draws[key] = draws.mean(axis=1)


def _places(strata: Sequence[Stratum], kind: str, part: str) -> list[int]:
    return [place for place, one in enumerate(strata) if (one.kind, one.part) == (kind, part)]


def _metrics(
    strata: Sequence[Stratum], owner: Int[np.ndarray, " rows"], replicates: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    metrics = (AVERAGE_PRECISION, AUROC)
    point = {metric.name: np.array([_value(metric, one) for one in strata]) for metric in metrics}
    if not replicates:
        return point, dict.fromkeys(point, np.empty((0, len(strata))))
    truth, score, weight = (np.stack([getattr(one, name) for one in strata], axis=1) for name in _ARRAYS)
    return point, patient_bootstrap(truth, score, owner, weight, metrics=metrics, replicates=replicates, seed=seed)


_ARRAYS = ("truth", "score", "weight")


def _value(metric: Metric, one: Stratum) -> float:
    value = metric(one.truth, one.score, one.weight).value
    return np.nan if value is None else value


def _shift_draws(
    shift: Shift, owner: Int[np.ndarray, " rows"], replicates: int, seed: int
) -> Float[np.ndarray, " replicates"]:
    patients = int(owner.max()) + 1
    return np.array([_means(shift, resample_patients(patients, seed, one)[owner]) for one in range(replicates)])


def _means(shift: Shift, times: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):  # 0 / 0: this draw has no such image
        more, less = (
            (times * weight) @ value / (times @ weight)
            for value, weight in zip(shift.values, shift.weights, strict=True)
        )
    return float(more - less)
