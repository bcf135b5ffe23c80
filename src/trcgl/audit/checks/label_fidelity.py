"""Does a drawn image show the finding that was asked for? An independent classifier, the auditor, is asked.

Drawn images whose prompt names the finding stand against drawn images of the same label sets and seeds without it. The
same classifier's figures on held-out real images stand beside, and so does a null: requests are deranged across label
sets, so that images of other findings count as those with this one.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt16

from trcgl.metrics.auroc import AUROC, auroc
from trcgl.metrics.bootstrap import patient_bootstrap, resample_patients
from trcgl.metrics.intervals import effective_patients, interval
from trcgl.metrics.summary import with_interval

REAL_AUROC, REAL_POSITIVES = 0.70, 20
"""An auditor that does not reach this on real images, or on fewer, cannot judge drawn ones."""
MARGIN = 0.05
"""How far the lower end of the drawn AUROC's interval may lie below the real AUROC."""
HIT_SHARE = 0.5
"""Of the real hit rate, that drawn images have to reach."""
FALSE_POSITIVES = 0.05
"""How far the false-positive rate may lie above the real one."""
TOO_EASY = 0.10
"""A drawn AUROC so far above the real one shows caricatures of the finding."""
REPLICATES = 2000

PASS, FAIL, EASY, UNJUDGED = "pass", "fail", "too easy", "not assessable"


@dataclass(frozen=True)
class Discrimination:
    """How well one classifier tells images with a finding from images without it.

    Args:
        auroc: value and 95 % interval over patients, or why there is none.
        hit_rate: share of the images with the finding that reach the threshold; as `auroc`.
        false_positive_rate: share of those without; as `auroc`.
        positives: images with the finding.
        negatives: images without.
        positive_patients: patients of the former; of drawn images, those whose label sets were used.
    """

    auroc: dict[str, Any]
    hit_rate: dict[str, Any]
    false_positive_rate: dict[str, Any]
    positives: int
    negatives: int
    positive_patients: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What follows for a finding.

    Args:
        word: `pass`, `fail`, `too easy` or `not assessable`.
        why: the reason, with the numbers.
    """

    word: str
    why: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON value."""
        return dataclasses.asdict(self)


def discrimination(
    truth: Float[np.ndarray, " rows"],
    score: Float[np.ndarray, " rows"],
    patients: Sequence[str],
    threshold: float,
    weight: Float[np.ndarray, " rows"] | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Discrimination:
    """AUROC, hit rate and false-positive rate, with intervals from a bootstrap over patients.

    Args:
        truth: 1 with the finding, 0 without, NaN unknown.
        score: of the finding, calibrated.
        patients: whose image each row is; of a drawn image, the patient whose label set was used.
        threshold: a score of at least it calls the finding present.
        weight: how much an image counts; all alike where None.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    truth, score = np.asarray(truth, np.float64), np.asarray(score, np.float64)
    owner = np.unique(np.asarray(patients), return_inverse=True)[1]
    value = auroc(truth, score, weight)
    area: dict[str, Any] = {"value": None, "ci": None, "why": value.why}
    if value.value is not None:
        samples = patient_bootstrap(
            truth[:, None], score[:, None], owner, weight, metrics=(AUROC,), replicates=replicates, seed=seed
        )["AUC"]
        freedom = effective_patients(truth, owner, weight) - 1
        area = with_interval(value.value, interval(value.value, samples[:, 0], freedom))
    rates = [
        rate(score[there] >= threshold, owner[there], None if weight is None else weight[there], replicates, seed)
        for there in (truth == 1, truth == 0)
    ]
    positives = truth == 1
    return Discrimination(
        area, rates[0], rates[1], int(positives.sum()), int((truth == 0).sum()), len(np.unique(owner[positives]))
    )


def rate(
    called: Bool[np.ndarray, " rows"],
    patients: np.ndarray,
    weight: Float[np.ndarray, " rows"] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """Share of the images that are called, with an interval from a bootstrap over patients."""
    if not len(called):
        return {"value": None, "ci": None, "why": "no image"}
    weight = np.ones(len(called)) if weight is None else weight
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    if not weight.sum() > 0:
        return {"value": None, "ci": None, "why": "every image weighs nothing"}
    hits, all_of = (np.bincount(owner, one, len(names)) for one in (weight * called, weight))
    counts = _draws(len(names), replicates, seed)
    with np.errstate(invalid="ignore"):  # 0 / 0: this replicate leaves the rate undefined
        samples = (counts @ hits) / (counts @ all_of)
    value = float(hits.sum() / all_of.sum())
    return with_interval(value, interval(value, samples, effective_patients(np.ones(len(called)), owner, weight) - 1))


@functools.lru_cache(maxsize=8)
def _draws(patients: int, replicates: int, seed: int) -> UInt16[np.ndarray, "replicates patients"]:
    """How often each patient is drawn in every replicate; findings and ways to draw share them."""
    return np.stack([resample_patients(patients, seed, one) for one in range(replicates)]).astype(np.uint16)


def of_synthetic(
    with_it: Float[np.ndarray, " drawn"],
    without: Float[np.ndarray, " others"],
    sources: tuple[Sequence[str], Sequence[str]],
    threshold: float,
    **how: Any,
) -> Discrimination:
    """Images prompted with a finding against images of the same label sets without it.

    Args:
        with_it: the finding's scores of the former.
        without: of the latter.
        sources: patients whose label sets were used, of both; they are what is resampled, because images that share
            a label set are not independent.
        threshold: of the auditor, fitted on its own val.
        how: `replicates` and `seed`.
    """
    truth = np.concatenate([np.ones(len(with_it)), np.zeros(len(without))])
    patients = [*sources[0], *sources[1]]
    return discrimination(truth, np.concatenate([with_it, without]), patients, threshold, **how)


@dataclass(frozen=True)
class Deranged:
    """The null: requests for a finding deranged across label sets.

    Images that were drawn with another finding, in a label set that does not hold this one, count as those with it;
    those of the same label sets without that other finding count as those without. A score that sees the finding
    itself gives .5. One that sees that something rare was asked for, or that two findings look alike, does not.

    Where no other finding is audited, with and without are exchanged in the pairs of every second patient: .5 but for
    chance, which tells less.

    Args:
        auroc: over all other findings together; value and interval, or why there is none.
        of_other: the same for each of them alone, without intervals.
        pairs: images that count as those with the finding, each of which has its counterpart.
        across: requests went to images of other label sets; else they were exchanged within pairs.
    """

    auroc: dict[str, Any]
    of_other: dict[str, float]
    pairs: int
    across: bool

    @property
    def highest(self) -> tuple[str, float] | None:
        """The other finding that is most often taken for this one, and its AUROC."""
        return max(self.of_other.items(), key=lambda one: one[1], default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return dataclasses.asdict(self)


def deranged(
    finding: str,
    column: int,
    score_with: Float[np.ndarray, "pairs findings"],
    score_without: Float[np.ndarray, "pairs findings"],
    targets: Sequence[str],
    requested: Sequence[Sequence[str]],
    sources: Sequence[str],
    **how: Any,
) -> Deranged:
    """The null of one finding, from the pairs of all audited findings.

    Args:
        finding: whose null it is.
        column: of its score.
        score_with: scores of the images with their target.
        score_without: of their counterparts, row by row.
        targets: the finding that each pair differs in.
        requested: the label set of each image with its target.
        sources: patient whose label set each pair uses.
        how: `replicates` and `seed`.
    """
    other = foreign(finding, targets, requested)
    if not other.any():
        own = np.array([target == finding for target in targets], bool)
        return _exchanged(score_with[own, column], score_without[own, column], np.asarray(sources)[own].tolist(), **how)
    first, second = score_with[other, column], score_without[other, column]
    names, patients = np.asarray(targets)[other], np.asarray(sources)[other].tolist()
    found = of_synthetic(first, second, (patients, patients), 0.5, **how)
    alone = {}
    for name in dict.fromkeys(names.tolist()):
        pairs = names == name
        truth = np.repeat([1.0, 0.0], pairs.sum())
        value = auroc(truth, np.concatenate([first[pairs], second[pairs]]).astype(np.float64)).value
        assert value is not None
        alone[name] = value
    return Deranged(found.auroc, alone, int(other.sum()), True)


def foreign(finding: str, targets: Sequence[str], requested: Sequence[Sequence[str]]) -> Bool[np.ndarray, " images"]:
    """Which images were drawn for another finding, in a label set that does not hold this one.

    Args:
        finding: this one.
        targets: the finding that each image was drawn for.
        requested: the label set of each.
    """
    pairs = zip(targets, requested, strict=True)
    return np.array([target != finding and finding not in asked for target, asked in pairs], bool)


def _exchanged(
    with_it: Float[np.ndarray, " pairs"], without: Float[np.ndarray, " pairs"], sources: Sequence[str], **how: Any
) -> Deranged:
    """With and without exchanged in the pairs of every second patient."""
    exchange = np.unique(np.asarray(sources), return_inverse=True)[1] % 2 == 1
    first, second = np.where(exchange, without, with_it), np.where(exchange, with_it, without)
    return Deranged(of_synthetic(first, second, (sources, sources), 0.5, **how).auroc, {}, len(sources), False)


def verdict(drawn: Discrimination, real: Discrimination) -> Verdict:
    """What drawn images of a finding are worth, by rules that were fixed beforehand.

    The auditor has to know the finding on real images first. Then drawn images pass where the lower end of their
    AUROC's interval is above .5 and no more than .05 below the real AUROC, their hit rate at least half the real one,
    and their false-positive rate no more than .05 above the real one. Few images have a wide interval and fail: what
    was not shown is not passed. An AUROC more than .10 above the real one is too easy. A rule that fails goes before
    `too easy`.
    """
    if real.positives < REAL_POSITIVES:
        return Verdict(UNJUDGED, f"{real.positives} real images with it; the auditor is judged on {REAL_POSITIVES}")
    on_real = real.auroc["value"]
    if on_real is None:
        return Verdict(UNJUDGED, f"the auditor has no AUROC on real images: {real.auroc['why']}")
    if on_real < REAL_AUROC:
        return Verdict(UNJUDGED, f"the auditor's AUROC on real images is {on_real:.3f}, below {REAL_AUROC:.2f}")
    if drawn.auroc["ci"] is None:
        return Verdict(UNJUDGED, f"no interval on drawn images: {drawn.auroc['why']}")
    failed = _failures(drawn, real)
    area = drawn.auroc["value"]
    if failed:
        return Verdict(FAIL, "; ".join(failed))
    if area > on_real + TOO_EASY:
        return Verdict(EASY, f"AUROC {area:.3f} is more than {TOO_EASY:.2f} above the real {on_real:.3f}")
    return Verdict(
        PASS,
        f"AUROC {area:.3f}, from {drawn.auroc['ci'][0]:.3f} up, beside {on_real:.3f} on real images; it calls "
        f"{_share(drawn.hit_rate)} with the finding and {_share(drawn.false_positive_rate)} without, "
        f"{_share(real.hit_rate)} and {_share(real.false_positive_rate)} of real ones",
    )


def _failures(drawn: Discrimination, real: Discrimination) -> list[str]:
    low, on_real = drawn.auroc["ci"][0], real.auroc["value"]
    hit, real_hit = drawn.hit_rate["value"], real.hit_rate["value"]
    false, real_false = drawn.false_positive_rate["value"], real.false_positive_rate["value"]
    found = []
    if not low > 0.5:
        found.append(f"the lower end of the AUROC's interval is {low:.3f}, not above 0.5")
    elif low < on_real - MARGIN:
        found.append(
            f"the lower end of the AUROC's interval is {low:.3f}, more than {MARGIN:.2f} below the real {on_real:.3f}"
        )
    if hit < HIT_SHARE * real_hit:
        found.append(f"hit rate {hit:.1%}, below half the real {real_hit:.1%}")
    if false > real_false + FALSE_POSITIVES:
        found.append(f"false-positive rate {false:.1%}, more than 5 points above the real {real_false:.1%}")
    return found


def _share(of: Mapping[str, Any]) -> str:
    return f"{of['value']:.1%}"
