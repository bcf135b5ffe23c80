"""Shortcut: does "synthetic" itself look like a rare finding? The auditor's scores on synthetic and real normal images.

A classifier trained with synthetic images of rare findings may learn that synthetic means rare. If synthetic normals
already score higher for a finding than real normals, generation leaves a trace that looks like the finding. Real
normals encoded and decoded by the generator's autoencoder show whether that trace comes from the autoencoder; real
training normals against real held-out normals are the null.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from trcgl.audit.check import Check, Evidence
from trcgl.audit.intervals import REPLICATES, auroc_with_interval, rate, undefined
from trcgl.audit.sample_plan import NORMALS
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator

LEAST = 20  # fewest patients on each side of a comparison
_MOST = 2000  # real training normals that are scored


@dataclass(frozen=True)
class Normals:
    """The auditor's scores of normal images."""

    score: Float[np.ndarray, "images findings"]  # calibrated scores in the columns of the audited findings
    patients: Sequence[str]  # patient of each image; source patient of a synthetic image

    def __post_init__(self) -> None:
        if len(self.score) != len(self.patients):
            raise DataError(f"{len(self.score)} rows of scores have {len(self.patients)} patients; give one each.")


@dataclass(frozen=True)
class Shift:
    """Scores for one finding on a set of normal images, compared with real held-out normal images."""

    # probability that such a normal scores higher, .5 for no shift; value and 95 % interval over patients
    auroc: dict[str, Any]
    false_positive_rate: dict[str, Any]  # share at or above the threshold
    held_out_false_positive_rate: dict[str, Any]  # the same share of real held-out normals
    shift: dict[str, Any]  # difference of the two shares
    images: int  # number of normals
    patients: int  # number of their patients


@dataclass(frozen=True)
class FindingShortcut:
    """The shifts of one finding."""

    synthetic: Shift  # shift of synthetic normals
    null: Shift  # shift of real training normals
    round_trip: Shift | None  # shift of real held-out normals after the autoencoder; None if not given
    # whether the whole interval of the synthetic AUROC is above .5 and above the null's value; None if unknown
    looks_rare: bool | None


@dataclass(frozen=True)
class Shortcut:
    """The shortcuts of the audited findings, and the number of real held-out normals and their patients."""

    findings: dict[str, FindingShortcut]
    held_out_images: int
    held_out_patients: int


def shortcut(
    synthetic: Normals,
    held_out: Normals,
    train: Normals,
    round_trip: Normals | None = None,
    *,
    findings: Sequence[str],
    thresholds: Mapping[str, float],
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Shortcut:
    """Compare the scores of normal images for every finding, with the thresholds fitted on val.

    `train` is the null: the generator was trained on its patients, the auditor was not. Neither was trained on the
    patients of `held_out`. `round_trip` has the images of `held_out` in the same order, encoded and decoded.
    """
    compared = {"synthetic": synthetic, "held-out": held_out, "train": train}
    compared |= {"round-trip": round_trip} if round_trip else {}
    for name, normals in compared.items():
        if normals.score.shape[1] != len(findings):
            raise DataError(
                f"{name} normals have scores of {normals.score.shape[1]} findings, expected {len(findings)}."
            )
        if not (finite := np.isfinite(normals.score).all(1)).all():
            row = int(np.flatnonzero(~finite)[0])
            raise DataError(f"{name} normals, row {row}: a score is not finite. Score the images again.")
    if missing := [finding for finding in findings if finding not in thresholds]:
        raise DataError(f"{missing[0]} has no threshold: take the thresholds of the auditor.")
    if round_trip and list(round_trip.patients) != list(held_out.patients):
        raise DataError("round-trip normals are not the held-out normals in the same order.")
    found = {}
    for column, finding in enumerate(findings):
        shifts = {
            name: _shift(normals, held_out, column, thresholds[finding], name == "round-trip", replicates, seed)
            for name, normals in compared.items()
            if name != "held-out"
        }
        moved, null = shifts["synthetic"], shifts["train"]
        ends, zero = moved.auroc["ci"], null.auroc["value"]
        looks_rare = None if ends is None or zero is None else bool(ends[0] > max(0.5, zero))
        found[finding] = FindingShortcut(moved, null, shifts.get("round-trip"), looks_rare)
    return Shortcut(found, len(held_out.score), len(set(held_out.patients)))


def _shift(
    normals: Normals, held_out: Normals, column: int, cut: float, paired: bool, replicates: int, seed: int
) -> Shift:
    images, patients = len(normals.score), len(set(normals.patients))
    if (few := min(patients, len(set(held_out.patients)))) < LEAST:
        empty = undefined(f"normals of only {few} patients: {LEAST} are needed")
        return Shift(empty, empty, empty, empty, images, patients)
    # Pairs stay together when their patient is resampled; a synthetic image and its source share no body.
    prefix = "" if paired else "other "
    owners = [prefix + name for name in normals.patients] + list(held_out.patients)
    score = np.concatenate([normals.score[:, column], held_out.score[:, column]]).astype(np.float64)
    member = (np.arange(len(score)) < images).astype(np.float64)
    area = auroc_with_interval(member, score, owners, both_sides=True, replicates=replicates, seed=seed)
    # All patients are resampled together, and images of the other side have weight 0.
    ours, real = (rate(score >= cut, owners, weight, replicates, seed) for weight in (member, 1 - member))
    return Shift(area, ours, real, _difference(ours, real), images, patients)


def _difference(rate: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Interval of a difference from the intervals of both shares, also if a share is 0 (Zou & Donner 2008)."""
    value = rate["value"] - other["value"]
    if rate["ci"] is None or other["ci"] is None:
        return {"value": value, "ci": None, "why": rate.get("why") or other.get("why")}
    down = np.hypot(rate["value"] - rate["ci"][0], other["ci"][1] - other["value"])
    up = np.hypot(rate["ci"][1] - rate["value"], other["value"] - other["ci"][0])
    return {"value": value, "ci": [float(value - down), float(value + up)]}


def of_all(evidence: Evidence) -> dict[str, Any] | None:
    """The shortcuts of all audited findings; None if the label space has no normal label."""
    images = evidence.images
    if NORMALS not in images.sheets:
        return None
    columns = [images.space.index(finding) for finding in images.findings]
    held_out, train = images.normals(images.held_out), images.normals(images.unseen)
    train = np.sort(generator(evidence.seed, "normals").permutation(train)[:_MOST])
    patients = images.held_out.patients(held_out)
    sheet = images.sheets[NORMALS]
    found = shortcut(
        Normals(sheet.scores[:, columns], sheet.patients()),
        Normals(images.held_out_score[held_out][:, columns], patients),
        Normals(images.score(images.unseen, train)[:, columns], images.unseen.patients(train)),
        Normals(images.decoded_score[held_out][:, columns], patients),
        findings=images.findings,
        thresholds=images.thresholds,
        seed=evidence.seed,
    )
    return dataclasses.asdict(found)


CHECK = Check(
    key="shortcut",
    order=80,
    title="Shortcut",
    null="real normal radiographs, untouched and after encoding and decoding",
    of_all=of_all,
)
