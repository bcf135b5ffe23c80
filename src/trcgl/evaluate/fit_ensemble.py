"""Fit how an ensemble combines scores on val: weights of the runs, fusion of studies, temperature and thresholds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.target import Target
from trcgl.evaluate.predictions import Predictions
from trcgl.evaluate.studies import by_study, studies_of
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.calibrate import fit_calibration
from trcgl.metrics.intervals import FEW
from trcgl.model.combination import Combination, log_odds, pooled
from trcgl.model.fusion import Fusion, FusionName, fuse

Weighting = Literal["equal", "greedy"]
ROUNDS = 20
"""Largest number of runs, counted with repetition, that greedy selection averages."""
GRID = tuple(step / 10 for step in range(11))
"""Weights of the maximum that a learned fusion chooses from."""

Scores = Float[np.ndarray, "rows findings"]
Truth = Float[np.ndarray, "units findings"]
Weight = Float[np.ndarray, " units"]


@dataclass(frozen=True)
class Settings:
    """What the command line decides about an ensemble."""

    weights: Weighting = "equal"
    tta: tuple[str, ...] = ()
    fusion: FusionName = "none"


def fit_combination(each: Sequence[Scores], val: Target, settings: Settings) -> Combination:
    """Fit the weights of the runs, the fusion, and then temperature and thresholds, on the scores of val.

    Args:
        each: scores of every run, averaged over mirrored or scaled copies, for the rows of `val`.
        val: split of the runs' own dataset.
        settings: how runs are weighted and studies fused.
    """
    space = val.space
    fusion = Fusion() if settings.fusion == "learned" else Fusion(settings.fusion)
    studies = None if settings.fusion == "none" else studies_of(val.rows)

    def fused(scores: Scores, weights: Float[np.ndarray, " findings"]) -> Float[np.ndarray, "units findings"]:
        return scores if studies is None else fuse(scores, studies, weights)

    units = predictions_of(pooled(each), val, Fusion(settings.fusion, dict.fromkeys(space.findings, 0.0)))
    weights = (1.0 / len(each),) * len(each)
    if settings.weights == "greedy":
        plain = fusion.weights(space.findings)
        weights = greedy_weights(each, lambda scores: fused(scores, plain), units.truth, units.weight, space)
    mean = pooled(each, weights)
    if settings.fusion == "learned":
        patients = units.patient_id.to_list()
        learned = learned_fusion(mean, fused, units.truth, units.weight, patients, space)
        fusion = Fusion("learned", learned)
    units = predictions_of(mean, val, fusion)
    calibration = fit_calibration(units.logit, units.truth, space.findings, units.weight)
    return Combination(weights, settings.tta, fusion, calibration.temperature, calibration.thresholds)


def predictions_of(scores: Scores, target: Target, fusion: Fusion) -> Predictions:
    """Predictions before calibration from the mean scores of images: of images or, with a fusion, of studies."""
    images = Predictions.from_manifest(target.rows, target.space, logit=log_odds(scores), score=scores)
    if fusion.name == "none":
        return images
    return by_study(images, studies_of(target.rows), fusion.weights(target.space.findings))


def greedy_weights(
    each: Sequence[Scores],
    of_units: Callable[[Scores], Float[np.ndarray, "units findings"]],
    truth: Truth,
    weight: Weight,
    space: LabelSpace,
) -> tuple[float, ...]:
    """Weights of runs by forward selection with replacement (Caruana et al. 2004, "Ensemble selection").

    Each round adds the run with which the mean has the highest mAP; a run may be added again. The weights are those of
    the best round, of equal ones the first.

    Args:
        each: scores of every run.
        of_units: fuses mean scores of images into those of the rows of `truth`.
        truth: labels of images or studies.
        weight: weight of each row of `truth`.
        space: label space of the columns; its scored findings enter the mAP.
    """
    columns = [space.index(finding) for finding in space.scored]
    total, counts = np.zeros(each[0].shape), np.zeros(len(each))
    best, weights = -1.0, counts
    for size in range(1, ROUNDS + 1):
        values = []
        for scores in each:
            fused = of_units(((total + scores) / size).astype(np.float32))
            values.append(_mean(_precisions(fused[:, columns], truth[:, columns], weight)))
        chosen = int(np.argmax(values))
        total += each[chosen]
        counts[chosen] += 1
        if values[chosen] > best:
            best, weights = values[chosen], counts / size
    return tuple(weights.tolist())


def learned_fusion(
    images: Scores,
    fuse: Callable[[Scores, Float[np.ndarray, " findings"]], Float[np.ndarray, "units findings"]],
    truth: Truth,
    weight: Weight,
    patients: Sequence[str],
    space: LabelSpace,
) -> dict[str, float]:
    """The weight of the maximum with the highest average precision, for each finding.

    A finding with fewer than 20 positive patients has the weight with the highest mean over all findings. Of equal
    weights the smallest is taken.

    Args:
        images: scores of images.
        fuse: fuses them into scores of the studies of `truth`, with a weight of the maximum for each finding.
        truth: labels of studies.
        weight: weight of each study.
        patients: patient of each study.
        space: label space of the columns.
    """
    findings = len(space.findings)
    precisions = np.array([_precisions(fuse(images, np.full(findings, a)), truth, weight) for a in GRID])
    common = int(np.argmax([_mean(row) for row in precisions]))
    learned = {}
    for column, finding in enumerate(space.findings):
        positive = {patient for patient, label in zip(patients, truth[:, column], strict=True) if label == 1}
        own = len(positive) >= FEW and np.isfinite(precisions[:, column]).all()
        learned[finding] = GRID[int(np.argmax(precisions[:, column])) if own else common]
    return learned


def _precisions(scores: Scores, truth: Scores, weight: Weight) -> np.ndarray:
    """Average precision of each finding; NaN where it is undefined."""
    values = (AVERAGE_PRECISION(truth[:, column], scores[:, column], weight).value for column in range(truth.shape[1]))
    return np.array([np.nan if value is None else value for value in values])


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
