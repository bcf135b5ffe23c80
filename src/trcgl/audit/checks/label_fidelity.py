"""Label fidelity: does an independent classifier, the auditor, recognize the requested finding in synthetic images?

Synthetic images prompted with the finding are compared with synthetic images of the same label sets and seeds without
it. The same figures on held-out real images stand beside them. In the null, requests are deranged across label sets, so
that images of other findings count as images with this one.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from trcgl.audit.check import FAIL, NOT_ASSESSABLE, PASS, TOO_EASY, Check, Evidence, Verdict
from trcgl.audit.intervals import REPLICATES, auroc_with_interval, rate
from trcgl.audit.sample_plan import WITH
from trcgl.audit.scored_images import PairedScores
from trcgl.metrics.auroc import AUROC

REAL_AUROC, REAL_POSITIVES = 0.70, 20
"""An auditor below this AUROC on real images, or with fewer positives, cannot assess synthetic images."""
MARGIN = 0.05  # largest distance of the lower end of the synthetic AUROC's interval below the real AUROC
HIT_SHARE = 0.5  # smallest synthetic hit rate, as a share of the real hit rate
FALSE_POSITIVES = 0.05  # largest distance of the false-positive rate above the real one
EASIER = 0.10  # a synthetic AUROC this far above the real one shows caricatures of the finding
NULL_AUROC = 0.6  # a null above it is reported as a caution


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
    patients: Sequence[str] | np.ndarray,
    threshold: float,
    weight: Float[np.ndarray, " rows"] | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Discrimination:
    """AUROC, hit rate and false-positive rate, with intervals from a bootstrap over patients.

    The truth is 1 with the finding, 0 without, NaN unknown; a score of at least the threshold calls it present.
    """
    owner, called = np.asarray(patients), score >= threshold
    positive, negative = truth == 1, truth == 0
    area = auroc_with_interval(truth, score, owner, weight, replicates=replicates, seed=seed)
    hits, alarms = (
        rate(called[side], owner[side], None if weight is None else weight[side], replicates, seed)
        for side in (positive, negative)
    )
    owners = len(np.unique(owner[positive]))
    return Discrimination(area, hits, alarms, int(positive.sum()), int(negative.sum()), owners)


def of_synthetic(
    with_finding: Float[np.ndarray, " pairs"],
    without_finding: Float[np.ndarray, " pairs"],
    sources: Sequence[str] | np.ndarray,
    threshold: float,
    **bootstrap: Any,
) -> Discrimination:
    """Discrimination of synthetic images with a finding from images of the same label sets without it.

    The source patients of the pairs are resampled, because images that share a label set are not independent.
    """
    truth = np.repeat([1.0, 0.0], len(sources))
    score = np.concatenate([with_finding, without_finding])
    return discrimination(truth, score, np.tile(np.asarray(sources, str), 2), threshold, **bootstrap)


@dataclass(frozen=True)
class Deranged:
    """The null: requests for a finding deranged across label sets.

    Synthetic images that were generated for another finding, from a label set without this finding, count as images
    with this finding; their counterparts without the other finding count as images without it. The AUROC is near .5 if
    the score responds to this finding alone, and higher if it responds to any rare request or confuses two findings.

    If no other finding is audited, the images with and without the finding are exchanged for every second patient; the
    AUROC is then .5 up to chance, which is weaker evidence.
    """

    auroc: dict[str, Any]  # over all other findings together; value and interval, or the reason why there is none
    of_other: dict[str, float]  # AUROC for each other finding alone, without interval
    pairs: int  # pairs of images in the null
    across: bool  # whether requests were exchanged across label sets, not within pairs
    highest: tuple[str, float] | None  # the other finding that is most often taken for this one, and its AUROC


def deranged(finding: str, column: int, pairs: PairedScores, **bootstrap: Any) -> Deranged:
    """Compute the null of a finding from the pairs of all audited findings; `column` has the scores for it."""
    targets, patients = (pairs.rows[name].to_numpy().astype(str) for name in ("target", "patient_id"))
    first, second = pairs.with_target[:, column], pairs.without_target[:, column]
    requested = zip(targets, pairs.rows["findings"].to_list(), strict=True)
    used = np.array([target != finding and finding not in labels for target, labels in requested], bool)
    across, alone = bool(used.any()), {}
    if across:
        for name in dict.fromkeys(targets[used].tolist()):
            rows = used & (targets == name)
            truth, score = np.repeat([1.0, 0.0], rows.sum()), np.concatenate([first[rows], second[rows]])
            alone[name] = float(AUROC(truth, score.astype(np.float64)).value or 0.0)
    else:
        used = targets == finding
        exchange = np.zeros(len(targets), bool)
        exchange[used] = np.unique(patients[used], return_inverse=True)[1] % 2 == 1
        first, second = np.where(exchange, second, first), np.where(exchange, first, second)
    area = of_synthetic(first[used], second[used], patients[used], 0.5, **bootstrap).auroc
    return Deranged(area, alone, int(used.sum()), across, max(alone.items(), key=lambda item: item[1], default=None))


def verdict(synthetic: Discrimination, real: Discrimination) -> Verdict:
    """The verdict on the synthetic images of a finding, by rules that were fixed beforehand.

    The auditor must recognize the finding on real images first. Then synthetic images pass if the lower end of their
    AUROC's interval is above .5 and at most .05 below the real AUROC, their hit rate is at least half of the hit rate
    on real images, and their false-positive rate is at most .05 above that on real images. Few images give a wide
    interval and fail. If the AUROC is more than .10 above the real AUROC, the finding is too easy; a failed rule takes
    precedence.
    """
    on_real, area, ends = real.auroc["value"], synthetic.auroc["value"], synthetic.auroc["ci"]
    hit, false, real_hit, real_false = (
        share["value"] for side in (synthetic, real) for share in (side.hit_rate, side.false_positive_rate)
    )
    if real.positives < REAL_POSITIVES:
        return Verdict(NOT_ASSESSABLE, f"{real.positives} real images with it; the auditor needs {REAL_POSITIVES}")
    if on_real is None:
        return Verdict(NOT_ASSESSABLE, f"the auditor has no AUROC on real images: {real.auroc['why']}")
    if on_real < REAL_AUROC:
        return Verdict(NOT_ASSESSABLE, f"the auditor's AUROC on real images is {on_real:.3f}, below {REAL_AUROC:.2f}")
    if ends is None:
        return Verdict(NOT_ASSESSABLE, f"no interval on synthetic images: {synthetic.auroc['why']}")
    end = f"the lower end of the AUROC's interval is {ends[0]:.3f}"
    rules = {
        f"{end}, not above 0.5": ends[0] > 0.5,
        f"{end}, more than {MARGIN:.2f} below the real {on_real:.3f}": not 0.5 < ends[0] < on_real - MARGIN,
        f"hit rate {hit:.1%}, below half the real {real_hit:.1%}": hit >= HIT_SHARE * real_hit,
        f"false-positive rate {false:.1%}, more than 5 points above the real {real_false:.1%}": false
        <= real_false + FALSE_POSITIVES,
    }
    if failed := [rule for rule, kept in rules.items() if not kept]:
        return Verdict(FAIL, "; ".join(failed))
    if area > on_real + EASIER:
        return Verdict(TOO_EASY, f"AUROC {area:.3f} is more than {EASIER:.2f} above the real {on_real:.3f}")
    return Verdict(
        PASS,
        f"AUROC {area:.3f}, from {ends[0]:.3f} up, beside {on_real:.3f} on real images; it calls {hit:.1%} with the "
        f"finding and {false:.1%} without, {real_hit:.1%} and {real_false:.1%} of real ones",
    )


def of_finding(evidence: Evidence, finding: str) -> dict[str, Any]:
    """Label fidelity of all and of kept synthetic images, the same on real images, the null, and the verdicts."""
    images, real_images, seed = evidence.images, evidence.images.held_out, evidence.seed
    column, threshold = images.space.index(finding), images.thresholds[finding]
    pairs, sheet = images.pairs(), images.sheets[WITH]

    def measured(rows: np.ndarray) -> Discrimination:
        scores = pairs.with_target[rows, column], pairs.without_target[rows, column]
        return of_synthetic(*scores, sheet.patients(rows), threshold, seed=seed)

    rows = sheet.rows_of(finding)
    everything, kept = measured(rows), measured(images.kept(rows))
    truth, score = real_images.truth[:, column], images.held_out_score[:, column]
    real = discrimination(truth, score, real_images.patients(), threshold, real_images.weight, seed=seed)
    null = deranged(finding, column, pairs, seed=seed)

    words = [{"word": found.word, "why": found.why} for found in (verdict(everything, real), verdict(kept, real))]
    return {
        "threshold": threshold,
        "synthetic": dataclasses.asdict(everything),
        "kept": dataclasses.asdict(kept),
        "real": dataclasses.asdict(real),
        "deranged": dataclasses.asdict(null),
        "verdict": words[0],
        "verdict_of_kept": words[1] if kept.positives else None,
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
    order=10,
    title="Label fidelity",
    null="requests deranged across label sets: images of other findings count as images with this one",
    of_finding=of_finding,
    verdict=_verdict,
)
