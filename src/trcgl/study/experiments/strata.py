"""Strata of a finding's test images: small or large, faint or strong lesions, with or without the usual partner.

AP depends on prevalence. The positives of every stratum are therefore weighted so that the finding is as prevalent in
it as in all images: strata differ in their images, not in how rare the finding is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy.special import logit

from trcgl.core.errors import DataError
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.labels import LabelSpace
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics.auroc import AUROC
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.bootstrap import patient_bootstrap, resample_patients
from trcgl.metrics.intervals import effective_patients, freedom_of_mean
from trcgl.metrics.rows import Rows

FEWEST = 5
"""Fewest positives of a stratum."""
PARTS = {
    "area": ("small", "middle", "large"),
    "contrast": ("faint", "middle", "strong"),
    "partner": ("with", "without"),
    "counterfactual": ("with", "without", "usual", "counter"),
}
"""Kind to strata: thirds of a finding's positives by area and by contrast of the lesion; images with and without the
partner; counterfactual images, all with the partner, all without it, as usual (positives with it, negatives without it)
and counter-stereotypical (positives without it, negatives with it)."""
LESION = ("area", "contrast")
"""Kinds that divide positives by a property of the lesion."""
GAPS = {
    "area": ("large", "small"),
    "contrast": ("strong", "faint"),
    "partner": ("with", "without"),
    "counterfactual": ("usual", "counter"),
}
"""The gap of a kind is the first stratum minus the second."""
SURE = 1e-6
"""Distance from 0 and 1 to which scores are clipped before their log-odds are taken."""

Known = TypeVar("Known")


@dataclass(frozen=True)
class Partner:
    """The head finding that a tail finding usually occurs with."""

    finding: str  # the head finding h
    share: float  # P(h | tail finding)
    lift: float  # P(h | tail finding) / P(h)


@dataclass(frozen=True)
class Stratum:
    """Labels, scores and weights of a finding in a stratum of the test images."""

    kind: str
    part: str
    finding: str
    truth: Rows  # 1 present, 0 absent, NaN where the image is unknown or outside the stratum
    score: Rows
    weight: Rows

    @property
    def positives(self) -> int:
        """Number of positives."""
        return int((self.truth == 1).sum())


@dataclass(frozen=True)
class Shift:
    """Change of a finding's log-odds by the partner in images without the finding: a difference of two means."""

    kind: str  # partner or counterfactual
    finding: str
    values: tuple[Rows, Rows]  # log-odds with the partner, and without
    weights: tuple[Rows, Rows]  # of each image in either mean


@dataclass(frozen=True)
class Measured:
    """Metrics of one run by stratum; keys are `kind/part/metric`, with `gap` for a part, and `kind/shift`."""

    values: dict[str, float]  # means over the findings of the kind
    findings: dict[str, dict[str, float]]  # the same for each finding
    freedom: dict[str, float]  # degrees of freedom that patients leave to a value
    replicates: dict[str, Float[np.ndarray, " replicates"]]  # of the means, NaN where undefined


class Knowledge(NamedTuple):
    """Facts about the test images, in the order of the predictions; a text in their place says why they are unknown."""

    lesion: Mapping[str, Mapping[str, Rows] | str]  # area and contrast: finding to a value for every image, NaN unknown
    partners: Mapping[str, Partner | str]  # finding to its usual partner
    flipped: Mapping[str, Path | str]  # partner to the file of images in which it is flipped


def strata(
    predictions: Predictions, knowledge: Knowledge, flipped: Mapping[str, np.ndarray]
) -> tuple[list[Stratum], list[Shift], dict[str, dict[str, Any]]]:
    """Strata and shifts of a run's test predictions; for each kind, positives and the reasons for omitted findings.

    `flipped` maps a partner to the scores (rows, findings) of the images in which it is flipped.
    """
    space = predictions.space
    made: list[Stratum] = []
    shifts: list[Shift] = []
    kinds: dict[str, dict[str, Any]] = {kind: {"positives": {}, "left_out": {}} for kind in PARTS}

    def cut(kind: str, finding: str) -> tuple[Sequence[Stratum], list[Shift]]:
        column = space.index(finding)
        truth = predictions.truth[:, column].astype(np.float64)
        score = predictions.score[:, column].astype(np.float64)
        images = finding, truth, score, predictions.weight
        if not ((truth == 1).any() and (truth == 0).any()):
            raise DataError("no positive or no negative in test")
        if kind in LESION:
            return by_lesion(kind, *images, _known(knowledge.lesion[kind])[finding]), []
        partner = _known(knowledge.partners[finding]).finding
        head = predictions.truth[:, space.index(partner)]
        if kind == "partner":
            found, shift = by_partner(*images, head)
        else:
            _known(knowledge.flipped[partner])
            found, shift = counterfactual(*images, head, flipped[partner][:, column])
        return found, [shift]

    for finding in space.in_group("tail"):
        for kind in PARTS:
            try:
                found, moved = cut(kind, finding)
            except DataError as error:
                kinds[kind]["left_out"][finding] = str(error)
            else:
                made += found
                shifts += moved
                kinds[kind]["positives"][finding] = {stratum.part: stratum.positives for stratum in found}
    return made, shifts, kinds


def _known(value: Known | str) -> Known:
    if isinstance(value, str):
        raise DataError(value)
    return value


def usual_partners(train: pl.DataFrame, space: LabelSpace) -> dict[str, Partner | str]:
    """The head finding of the highest lift in train for every tail finding, or the reason why it has none."""
    together = counts(train, space)
    conditional, share = together.conditional(), together.positives / np.maximum(together.labeled, 1)
    heads = [space.index(finding) for finding in space.in_group("head") if finding != space.normal]
    partners: dict[str, Partner | str] = {}
    for finding in space.in_group("tail"):
        row = conditional[space.index(finding)]
        lift = {head: row[head] / share[head] for head in heads if share[head] > 0}
        best = max(lift, key=lift.__getitem__, default=None)
        if best is None or lift[best] <= 1:
            partners[finding] = "no head finding occurs with it in train more often than by chance"
        else:
            partners[finding] = Partner(space.findings[best], float(row[best]), float(lift[best]))
    return partners


def thirds(truth: Rows, value: Rows) -> tuple[Bool[np.ndarray, " rows"], ...]:
    """The positives of the lowest, the middle and the highest values, as many of each; at most two are left over.

    A positive of unknown value (NaN) is in no third.
    """
    known = np.flatnonzero((truth == 1) & ~np.isnan(value))
    order = known[np.argsort(value[known], kind="stable")]
    size, spare = divmod(len(order), 3)
    start = size + spare // 2
    places = (order[:size], order[start : start + size], order[len(order) - size :])
    return tuple(np.isin(np.arange(len(truth)), third) for third in places)


def stratum(
    kind: str, part: str, finding: str, truth: Rows, score: Rows, weight: Rows, inside: Bool[np.ndarray, " rows"]
) -> Stratum:
    """A stratum whose positives are weighted so that the finding is as prevalent in it as in all images."""
    own = np.where(inside, truth, np.nan)
    odds = weight[truth == 1].sum() / weight[truth == 0].sum()
    there = weight[own == 1].sum() / weight[own == 0].sum()
    return Stratum(kind, part, finding, own, score, np.where(own == 1, weight * odds / there, weight))


def by_lesion(kind: str, finding: str, truth: Rows, score: Rows, weight: Rows, value: Rows) -> tuple[Stratum, ...]:
    """Thirds of the positives by a property of the lesion, each against all negatives; DataError if they are few."""
    chosen = thirds(truth, value)
    if chosen[0].sum() < FEWEST:
        known = int(((truth == 1) & ~np.isnan(value)).sum())
        raise DataError(f"{known} positives of known {kind}, {3 * FEWEST} are needed")
    return tuple(
        stratum(kind, part, finding, truth, score, weight, inside | (truth == 0))
        for part, inside in zip(PARTS[kind], chosen, strict=True)
    )


def by_partner(finding: str, truth: Rows, score: Rows, weight: Rows, head: Rows) -> tuple[tuple[Stratum, ...], Shift]:
    """Images with the partner (`head` is 1) and images without it; DataError if there are too few of a kind."""
    parts = {"with": head == 1, "without": head == 0}
    few = {
        f"{number} {word} {part} the partner"
        for present, word in ((1, "positives"), (0, "negatives"))
        for part, inside in parts.items()
        if (number := int(((truth == present) & inside).sum())) < FEWEST
    }
    if few:
        raise DataError(f"{', '.join(sorted(few))}; {FEWEST} are needed")
    both = tuple(stratum("partner", part, finding, truth, score, weight, inside) for part, inside in parts.items())
    odds = log_odds(score)
    there, gone = (np.where((truth == 0) & inside, weight, 0.0) for inside in parts.values())
    return both, Shift("partner", finding, (odds, odds), (there, gone))


def counterfactual(
    finding: str, truth: Rows, score: Rows, weight: Rows, head: Rows, flipped: Rows
) -> tuple[tuple[Stratum, ...], Shift]:
    """All images both with the partner and without it; one of the two versions is counterfactual.

    `flipped` is the score of the same image rendered with the partner removed if present, added if absent. A finding
    with too few images with or without it is a DataError.
    """
    if (few := min((truth == 1).sum(), (truth == 0).sum())) < FEWEST:
        raise DataError(f"{few} images with or without the finding, {FEWEST} are needed")
    there, gone = np.where(head == 1, score, flipped), np.where(head == 1, flipped, score)
    usual, counter = np.where(truth == 1, there, gone), np.where(truth == 1, gone, there)
    scores = {"with": there, "without": gone, "usual": usual, "counter": counter}
    made = tuple(Stratum("counterfactual", part, finding, truth, own, weight) for part, own in scores.items())
    negatives = np.where(truth == 0, weight, 0.0)
    return made, Shift("counterfactual", finding, (log_odds(there), log_odds(gone)), (negatives, negatives))


def log_odds(score: Rows) -> Rows:
    """ln(p / (1 - p))."""
    return logit(np.clip(np.asarray(score, np.float64), SURE, 1 - SURE))


def measure(
    strata: Sequence[Stratum], shifts: Sequence[Shift], owner: Int[np.ndarray, " rows"], *, replicates: int, seed: int
) -> Measured:
    """AP and AUROC of every stratum, gaps and shifts of one run, as means over the findings of their kind.

    A finding that has strata of a kind has all parts of this kind. `owner` numbers the patient of every image, from 0
    on without a gap.
    """
    found = Measured({}, {}, {}, {})
    if not strata:
        return found
    point, resampled = _metrics(strata, owner, replicates, seed)
    for kind in dict.fromkeys(stratum.kind for stratum in strata):
        places = {
            part: [place for place, found in enumerate(strata) if (found.kind, found.part) == (kind, part)]
            for part in PARTS[kind]
        }
        more, less = GAPS[kind]
        names = [strata[place].finding for place in places[more]]
        freedom = {
            part: np.array([effective_patients(strata[at].truth, owner, strata[at].weight) - 1 for at in of_part])
            for part, of_part in places.items()
        }
        freedom["gap"] = np.minimum(freedom[more], freedom[less])
        for metric in ("AP", "AUC"):
            values = {part: point[metric][of_part] for part, of_part in places.items()}
            again = {part: resampled[metric][:, of_part] for part, of_part in places.items()}
            values["gap"], again["gap"] = values[more] - values[less], again[more] - again[less]
            for part in values:
                patients = freedom_of_mean(again[part], freedom[part])
                _note(found, f"{kind}/{part}/{metric}", names, values[part], again[part], patients)
    for kind in dict.fromkeys(shift.kind for shift in shifts):
        own = [shift for shift in shifts if shift.kind == kind]
        shifted = np.array([_shift_of(shift, np.ones(len(owner))) for shift in own])
        resamples = (resample_patients(int(owner.max()) + 1, seed, number)[owner] for number in range(replicates))
        redone = np.array([[_shift_of(shift, times) for shift in own] for times in resamples])
        weights = [weight for shift in own for weight in shift.weights]
        patients = min(effective_patients(np.ones_like(weight), owner, weight) for weight in weights) - 1
        _note(found, f"{kind}/shift", [shift.finding for shift in own], shifted, redone, patients)
    return found


def _note(
    found: Measured, key: str, names: Iterable[str], values: np.ndarray, replicates: np.ndarray, freedom: float
) -> None:
    found.values[key] = float(values.mean())
    found.findings[key] = dict(zip(names, map(float, values), strict=True))
    found.freedom[key] = float(freedom)
    if len(replicates):
        found.replicates[key] = replicates.mean(axis=1)


def _metrics(
    strata: Sequence[Stratum], owner: Int[np.ndarray, " rows"], replicates: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    metrics = (AVERAGE_PRECISION, AUROC)
    arrays = [(stratum.truth, stratum.score, stratum.weight) for stratum in strata]
    point = {metric.name: np.array([metric(*own).value for own in arrays], np.float64) for metric in metrics}
    if not replicates:
        return point, dict.fromkeys(point, np.empty((0, len(strata))))
    truth, score, weight = (np.stack(columns, axis=1) for columns in zip(*arrays, strict=True))
    return point, patient_bootstrap(truth, score, owner, weight, metrics=metrics, replicates=replicates, seed=seed)


def _shift_of(shift: Shift, times: np.ndarray) -> float:
    pairs = zip(shift.values, shift.weights, strict=True)
    with np.errstate(invalid="ignore"):  # 0 / 0: this resample has no such image
        more, less = ((times * weight) @ value / (times @ weight) for value, weight in pairs)
    return float(more - less)
