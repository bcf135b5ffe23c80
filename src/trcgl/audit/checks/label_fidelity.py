"""Label fidelity: does an independent classifier, the auditor, recognize the requested finding in synthetic images?

Synthetic images prompted with the finding are compared with synthetic images of the same label sets and seeds without
it. The same figures on held-out real images stand beside them. In the null, requests are deranged across label sets, so
that images of other findings count as images with this one.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from trcgl.audit.check import FAIL, NOT_ASSESSABLE, PASS, TOO_EASY, Check, Evidence, Verdict
from trcgl.audit.intervals import REPLICATES, auroc_with_interval, rate
from trcgl.audit.sample_plan import WITH, WITHOUT
from trcgl.metrics.auroc import auroc

REAL_AUROC, REAL_POSITIVES = 0.70, 20
"""An auditor below this AUROC on real images, or with fewer positives, cannot assess synthetic images."""
MARGIN = 0.05
"""Largest distance of the lower end of the synthetic AUROC's interval below the real AUROC."""
HIT_SHARE = 0.5
"""Smallest synthetic hit rate, as a share of the real hit rate."""
FALSE_POSITIVES = 0.05
"""Largest distance of the false-positive rate above the real one."""
EASIER = 0.10
"""A synthetic AUROC this far above the real one shows caricatures of the finding."""
NULL_AUROC = 0.6
"""A null above it is reported as a caution."""


@dataclass(frozen=True)
class Discrimination:
    """How well a classifier separates images with a finding from images without it."""

    auroc: dict[str, Any]  # value and 95 % interval over patients, or the reason why there is none
    hit_rate: dict[str, Any]  # share of the images with the finding at or above the threshold; as `auroc`
    false_positive_rate: dict[str, Any]  # share of the images without the finding at or above the threshold; as `auroc`
    positives: int  # images with the finding
    negatives: int  # images without it
    positive_patients: int  # patients of the images with the finding; source patients of synthetic images


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
        score: calibrated score of the finding.
        patients: patient of each image; source patient of a synthetic image.
        threshold: scores of at least this call the finding present.
        weight: weight of each image; all equal if None.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap.
    """
    owner, called = np.asarray(patients), score >= threshold
    positive, negative = truth == 1, truth == 0
    hit_rate, false_positive_rate = (
        rate(called[side], owner[side], None if weight is None else weight[side], replicates, seed)
        for side in (positive, negative)
    )
    return Discrimination(
        auroc=auroc_with_interval(truth, score, owner, weight, replicates=replicates, seed=seed),
        hit_rate=hit_rate,
        false_positive_rate=false_positive_rate,
        positives=int(positive.sum()),
        negatives=int(negative.sum()),
        positive_patients=len(np.unique(owner[positive])),
    )


def of_synthetic(
    with_finding: Float[np.ndarray, " synthetic"],
    without_finding: Float[np.ndarray, " counterparts"],
    sources: tuple[Sequence[str], Sequence[str]],
    threshold: float,
    **bootstrap: Any,
) -> Discrimination:
    """Discrimination of synthetic images with a finding from images of the same label sets without it.

    Args:
        with_finding: scores of the images with the finding.
        without_finding: scores of their counterparts.
        sources: source patients of both. They are resampled because images that share a label set are not independent.
        threshold: threshold of the auditor, fitted on val.
        bootstrap: `replicates` and `seed`.
    """
    truth = np.repeat([1.0, 0.0], [len(with_finding), len(without_finding)])
    score = np.concatenate([with_finding, without_finding])
    return discrimination(truth, score, [*sources[0], *sources[1]], threshold, **bootstrap)


@dataclass(frozen=True)
class Deranged:
    """The null: requests for a finding deranged across label sets.

    Synthetic images of another finding, in a label set without this one, count as images with this finding; their
    counterparts without that other finding count as images without. The AUROC is near .5 if the score responds to this
    finding alone, and higher if it responds to any rare request or confuses two findings.

    If no other finding is audited, with and without are exchanged in the pairs of every second patient; the AUROC is
    then .5 up to chance, which is weaker evidence.
    """

    auroc: dict[str, Any]  # over all other findings together; value and interval, or the reason why there is none
    of_other: dict[str, float]  # AUROC for each other finding alone, without interval
    pairs: int  # pairs of images in the null
    across: bool  # whether requests were exchanged across label sets, not within pairs

    @property
    def highest(self) -> tuple[str, float] | None:
        """The other finding that is most often taken for this one, and its AUROC."""
        return max(self.of_other.items(), key=lambda item: item[1], default=None)


def deranged(
    finding: str,
    column: int,
    score_with: Float[np.ndarray, "pairs findings"],
    score_without: Float[np.ndarray, "pairs findings"],
    targets: Sequence[str],
    requested: Sequence[Sequence[str]],
    sources: Sequence[str],
    **bootstrap: Any,
) -> Deranged:
    """The null of one finding, from the pairs of all audited findings.

    Args:
        finding: the finding.
        column: column of its score.
        score_with: scores of the images with their target.
        score_without: scores of their counterparts, row by row.
        targets: target finding of each pair.
        requested: label set of each image with its target.
        sources: source patient of each pair.
        bootstrap: `replicates` and `seed`.
    """
    patients, other = np.asarray(sources), foreign(finding, targets, requested)
    if not other.any():
        own = np.array([target == finding for target in targets], bool)
        exchange = np.unique(patients[own], return_inverse=True)[1] % 2 == 1
        with_finding, without_finding = score_with[own, column], score_without[own, column]
        first = np.where(exchange, without_finding, with_finding)
        second = np.where(exchange, with_finding, without_finding)
        pairs = patients[own].tolist()
        return Deranged(of_synthetic(first, second, (pairs, pairs), 0.5, **bootstrap).auroc, {}, len(pairs), False)
    first, second = score_with[other, column], score_without[other, column]
    names, pairs = np.asarray(targets)[other], patients[other].tolist()
    alone = {}
    for name in dict.fromkeys(names.tolist()):
        rows = names == name
        truth = np.repeat([1.0, 0.0], rows.sum())
        alone[name] = float(auroc(truth, np.concatenate([first[rows], second[rows]]).astype(np.float64)).value or 0.0)
    return Deranged(of_synthetic(first, second, (pairs, pairs), 0.5, **bootstrap).auroc, alone, len(pairs), True)


def foreign(finding: str, targets: Sequence[str], requested: Sequence[Sequence[str]]) -> Bool[np.ndarray, " images"]:
    """Which images were generated for another finding, in a label set that does not contain this one.

    Args:
        finding: this finding.
        targets: target finding of each image.
        requested: label set of each image.
    """
    pairs = zip(targets, requested, strict=True)
    return np.array([target != finding and finding not in labels for target, labels in pairs], bool)


def verdict(synthetic: Discrimination, real: Discrimination) -> Verdict:
    """The verdict on the synthetic images of a finding, by rules that were fixed beforehand.

    The auditor must recognize the finding on real images first. Then synthetic images pass if the lower end of their
    AUROC's interval is above .5 and at most .05 below the real AUROC, their hit rate is at least half the real one, and
    their false-positive rate is at most .05 above the real one. Few images give a wide interval and fail. An AUROC more
    than .10 above the real one is too easy; a failed rule takes precedence.
    """
    on_real, area = real.auroc["value"], synthetic.auroc["value"]
    if real.positives < REAL_POSITIVES:
        return Verdict(NOT_ASSESSABLE, f"{real.positives} real images with it; the auditor needs {REAL_POSITIVES}")
    if on_real is None:
        return Verdict(NOT_ASSESSABLE, f"the auditor has no AUROC on real images: {real.auroc['why']}")
    if on_real < REAL_AUROC:
        return Verdict(NOT_ASSESSABLE, f"the auditor's AUROC on real images is {on_real:.3f}, below {REAL_AUROC:.2f}")
    if synthetic.auroc["ci"] is None:
        return Verdict(NOT_ASSESSABLE, f"no interval on synthetic images: {synthetic.auroc['why']}")
    if failed := _failures(synthetic, real):
        return Verdict(FAIL, "; ".join(failed))
    if area > on_real + EASIER:
        return Verdict(TOO_EASY, f"AUROC {area:.3f} is more than {EASIER:.2f} above the real {on_real:.3f}")
    return Verdict(
        PASS,
        f"AUROC {area:.3f}, from {synthetic.auroc['ci'][0]:.3f} up, beside {on_real:.3f} on real images; it calls "
        f"{_share(synthetic.hit_rate)} with the finding and {_share(synthetic.false_positive_rate)} without, "
        f"{_share(real.hit_rate)} and {_share(real.false_positive_rate)} of real ones",
    )


def _failures(synthetic: Discrimination, real: Discrimination) -> list[str]:
    low, on_real = synthetic.auroc["ci"][0], real.auroc["value"]
    hit, real_hit = synthetic.hit_rate["value"], real.hit_rate["value"]
    false, real_false = synthetic.false_positive_rate["value"], real.false_positive_rate["value"]
    failures = []
    if not low > 0.5:
        failures.append(f"the lower end of the AUROC's interval is {low:.3f}, not above 0.5")
    elif low < on_real - MARGIN:
        failures.append(
            f"the lower end of the AUROC's interval is {low:.3f}, more than {MARGIN:.2f} below the real {on_real:.3f}"
        )
    if hit < HIT_SHARE * real_hit:
        failures.append(f"hit rate {hit:.1%}, below half the real {real_hit:.1%}")
    if false > real_false + FALSE_POSITIVES:
        failures.append(f"false-positive rate {false:.1%}, more than 5 points above the real {real_false:.1%}")
    return failures


def _share(value: Mapping[str, Any]) -> str:
    return f"{value['value']:.1%}"


def of_finding(evidence: Evidence, finding: str) -> dict[str, Any]:
    """All synthetic images of a finding and the kept ones alone, real images, the null, and the verdicts."""
    images, seed = evidence.images, evidence.seed
    column, threshold = images.space.index(finding), images.thresholds[finding]
    with_sheet, without_sheet = images.sheets[WITH], images.sheets[WITHOUT]

    def measured(rows: np.ndarray) -> Discrimination:
        return of_synthetic(
            with_sheet.scores[rows, column],
            without_sheet.scores[rows, column],  # row by row the counterparts
            (with_sheet.patients(rows), without_sheet.patients(rows)),
            threshold,
            seed=seed,
        )

    rows = with_sheet.rows_of(finding)
    everything, kept = measured(rows), measured(images.kept(rows))
    real = discrimination(
        images.held_out.truth[:, column],
        images.held_out_score[:, column],
        images.held_out.patients(),
        threshold,
        images.held_out.weight,
        seed=seed,
    )
    null = deranged(
        finding,
        column,
        with_sheet.scores,
        without_sheet.scores,
        with_sheet.rows["target"].to_list(),
        with_sheet.rows["findings"].to_list(),
        with_sheet.patients(),
        seed=seed,
    )

    def stored(found: Verdict) -> dict[str, str]:
        return {"word": found.word, "why": found.why}

    return {
        "threshold": threshold,
        "synthetic": dataclasses.asdict(everything),
        "kept": dataclasses.asdict(kept),
        "real": dataclasses.asdict(real),
        "deranged": {**dataclasses.asdict(null), "highest": null.highest},
        "verdict": stored(verdict(everything, real)),
        "verdict_of_kept": stored(verdict(kept, real)) if kept.positives else None,
    }


def _verdict(result: dict[str, Any], so_far: Verdict) -> Verdict:
    found, null = Verdict(result["verdict"]["word"], result["verdict"]["why"], so_far.cautions), result["deranged"]
    if not null["across"]:
        return found.but("No other finding is audited: the null only exchanges requests within pairs.")
    if null["auroc"]["value"] > NULL_AUROC:
        other, value = null["highest"]
        return found.but(
            f"The null is {null['auroc']['value']:.2f}, not near .5: the score also rises for {other} ({value:.2f})."
        )
    return found


CHECK = Check(
    key="label_fidelity",
    title="Label fidelity",
    null="requests deranged across label sets: images of other findings count as images with this one",
    of_finding=of_finding,
    verdict=_verdict,
)
