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
from jaxtyping import Bool, Float, Int

from trcgl.audit.check import Check, Evidence
from trcgl.audit.intervals import REPLICATES, auroc_with_interval, resample_counts, undefined
from trcgl.audit.sample_plan import NORMALS
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator
from trcgl.metrics.intervals import effective_patients, interval
from trcgl.metrics.summary import with_interval

LEAST = 20
"""Fewest patients on each side of a comparison."""
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
    """Scores for one finding on some normals, against real held-out normals."""

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

    Neither generator nor auditor was trained on the held-out patients, and only the generator on `train`, the null. The
    round trip holds the held-out images in the same order, after encoding and decoding.
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
    cuts = np.array([thresholds[finding] for finding in findings])
    shifts = {
        name: _shifts(normals, held_out, cuts, replicates, seed, paired=name == "round-trip")
        for name, normals in compared.items()
        if name != "held-out"
    }
    found = {}
    for column, finding in enumerate(findings):
        moved, null = shifts["synthetic"][column], shifts["train"][column]
        ends, zero = moved.auroc["ci"], null.auroc["value"]
        looks_rare = None if ends is None or zero is None else bool(ends[0] > max(0.5, zero))
        decoded = shifts["round-trip"][column] if round_trip else None
        found[finding] = FindingShortcut(moved, null, decoded, looks_rare)
    return Shortcut(found, len(held_out.score), len(set(held_out.patients)))


def _shifts(
    normals: Normals,
    held_out: Normals,
    cuts: Float[np.ndarray, " findings"],
    replicates: int,
    seed: int,
    *,
    paired: bool,
) -> list[Shift]:
    patients = len(set(normals.patients))
    if (few := min(patients, len(set(held_out.patients)))) < LEAST:
        empty = undefined(f"normals of only {few} patients: {LEAST} are needed")
        return [Shift(empty, empty, empty, empty, len(normals.score), patients) for _ in cuts]
    # Pairs stay together when their patient is resampled; a synthetic image and its source share no body.
    prefix = "" if paired else "other "
    owners = np.array([prefix + name for name in normals.patients] + list(held_out.patients))
    owner = np.unique(owners, return_inverse=True)[1]
    score = np.concatenate([normals.score, held_out.score]).astype(np.float64)
    member = np.arange(len(score)) < len(normals.score)
    rates = _rate_replicates(score >= cuts, member, owner, replicates, seed)
    freedom = [effective_patients(side.astype(np.float64), owner) - 1 for side in (member, ~member)]
    found = []
    for column, cut in enumerate(cuts):
        area = auroc_with_interval(
            member.astype(np.float64), score[:, column], owner, both_sides=True, replicates=replicates, seed=seed
        )
        values = [float((score[side, column] >= cut).mean()) for side in (member, ~member)]
        rate, real_rate = (
            with_interval(value, interval(value, rates[place][:, column], freedom[place]))
            for place, value in enumerate(values)
        )
        found.append(Shift(area, rate, real_rate, _difference(rate, real_rate), len(normals.score), patients))
    return found


def _rate_replicates(
    reached: Bool[np.ndarray, "rows findings"],
    member: Bool[np.ndarray, " rows"],
    owner: Int[np.ndarray, " rows"],
    replicates: int,
    seed: int,
) -> list[Float[np.ndarray, "replicates findings"]]:
    """Shares at or above the threshold on every replicate, of the members and of the others."""
    patients = int(owner.max()) + 1
    counts = resample_counts(patients, replicates, seed)
    found = []
    for side in (member, ~member):
        rows = np.bincount(owner[side], minlength=patients).astype(np.float64)
        hits = np.stack([np.bincount(owner[side], column, patients) for column in reached[side].T], 1)
        with np.errstate(invalid="ignore"):  # 0 / 0: the replicate holds no patient of this side
            found.append((counts @ hits) / (counts @ rows)[:, None])
    return found


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
