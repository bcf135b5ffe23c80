"""Autoencoder ceiling: which findings survive encoding and decoding by the generator's autoencoder?

Real held-out images are encoded and decoded; the auditor scores them before and after. Each replicate resamples the
same patients for both, so the interval of the loss is paired.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from trcgl.audit.check import NOT_REPRESENTABLE, Check, Evidence, Verdict
from trcgl.audit.checks.label_fidelity import REAL_AUROC, REAL_POSITIVES
from trcgl.audit.intervals import REPLICATES
from trcgl.metrics.auroc import AUROC
from trcgl.metrics.intervals import difference_interval
from trcgl.metrics.summary import measure, with_interval

LOSS = 0.10  # a larger loss of AUROC, with an interval above 0, makes a finding not representable


@dataclass(frozen=True)
class Ceiling:
    """The ceiling of one finding."""

    untouched: dict[str, Any]  # AUROC on the original images; value and interval, or the reason why there is none
    reconstructed: dict[str, Any]  # AUROC after encoding and decoding
    loss: dict[str, Any]  # untouched minus reconstructed, with a paired interval
    representable: bool | None  # whether a generator with this autoencoder can show the finding; None if unknown
    why: str  # the reason with its numbers


def ceilings(
    truth: Float[np.ndarray, "rows findings"],
    untouched: Float[np.ndarray, "rows findings"],
    reconstructed: Float[np.ndarray, "rows findings"],
    patients: Sequence[str],
    weight: Float[np.ndarray, " rows"] | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Ceiling]:
    """The ceiling of every finding, from scores of real images before and after encoding and decoding.

    A finding is not representable if the upper end of the reconstructed AUROC's interval is below .70, or if the loss
    is more than .10 and its interval above 0. This is unknown for a finding that the auditor does not recognize on
    untouched images (AUROC below .70, or fewer than 20 positives).
    """
    before, after = (
        measure(truth, score, np.asarray(patients), weight, metrics=(AUROC,), replicates=replicates, seed=seed)
        for score in (untouched, reconstructed)
    )
    found = []
    for column, known in enumerate(truth.T):
        original, decoded = (measured.finding(column)["AUC"] for measured in (before, after))
        if original["value"] is None:
            found.append(Ceiling(original, original, original, None, f"no AUROC: {original['why']}"))
            continue
        value = original["value"] - decoded["value"]
        paired = before.replicates["AUC"][:, column] - after.replicates["AUC"][:, column]
        loss = with_interval(value, difference_interval(value, paired, before.freedom["AUC"][column]))
        representable = _representable(original, decoded, loss, int((known == 1).sum()))
        found.append(Ceiling(original, decoded, loss, *representable))
    return found


def _representable(
    before: dict[str, Any], after: dict[str, Any], loss: dict[str, Any], positives: int
) -> tuple[bool | None, str]:
    if positives < REAL_POSITIVES:
        return None, f"{positives} real images with it; {REAL_POSITIVES} are needed"
    if before["value"] < REAL_AUROC:
        return None, f"the auditor's AUROC on untouched images is {before['value']:.3f}, below {REAL_AUROC:.2f}"
    if after["ci"] is None or loss["ci"] is None:
        return None, f"no interval: {after.get('why') or loss.get('why')}"
    if after["ci"][1] < REAL_AUROC:
        ends = f"{after['value']:.3f} and its interval ends at {after['ci'][1]:.3f}"
        return False, f"after encode and decode the AUROC is {ends}, below {REAL_AUROC:.2f}"
    low, high = loss["ci"]
    if loss["value"] > LOSS and low > 0:
        cost = f"{loss['value']:.3f} of AUROC [{low:.3f}, {high:.3f}]"
        return False, f"encode and decode cost {cost}, more than {LOSS:.2f}"
    return True, f"AUROC {before['value']:.3f} untouched, {after['value']:.3f} after encode and decode"


def of_all(evidence: Evidence) -> dict[str, Any]:
    """Change of the pixels, and the ceiling of every finding of the label space."""
    images, real = evidence.images, evidence.images.held_out
    scores = images.held_out_score, images.decoded_score
    found = ceilings(real.truth, *scores, real.patients(), real.weight, seed=evidence.seed)
    return {
        "kind": type(images.inputs.generator.vae).__name__,
        "gray_levels": {**dataclasses.asdict(images.error), "lossless": images.error.lossless},
        "findings": dict(zip(images.space.findings, map(dataclasses.asdict, found), strict=True)),
    }


def of_finding(evidence: Evidence, finding: str) -> dict[str, Any]:
    """The ceiling of one finding."""
    return dict(evidence.overall["ceiling"]["findings"][finding])


def _verdict(result: dict[str, Any], so_far: Verdict) -> Verdict:
    if result["representable"] is False:
        return Verdict(NOT_REPRESENTABLE, f"with this base: {result['why']}", so_far.cautions)
    return so_far


CHECK = Check(
    key="ceiling",
    order=20,
    title="Autoencoder ceiling",
    null="the same real images before encoding and decoding",
    of_finding=of_finding,
    of_all=of_all,
    verdict=_verdict,
)
