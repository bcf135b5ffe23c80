"""Does "drawn" itself look like "rare"? The auditor's scores for tail findings on normal images, drawn and real.

A classifier that learns from drawn images of rare findings may learn that what is drawn is rare. If drawn normals
already score higher for a finding than real normals, the drawing leaves a trace that looks like the finding. Real
normals that went through the generator's autoencoder tell whether that trace is the autoencoder's; real training
normals against real held-out normals are the null.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from trcgl.core.errors import DataError
from trcgl.metrics.auroc import AUROC, auroc
from trcgl.metrics.bootstrap import patient_bootstrap, resample_patients
from trcgl.metrics.intervals import effective_patients, interval
from trcgl.metrics.summary import with_interval

REPLICATES = 2000
LEAST = 20
"""Fewer patients on one side are not compared."""


@dataclass(frozen=True)
class Normals:
    """The auditor's scores of normal images.

    Args:
        score: calibrated, in the columns of the audited findings.
        patients: of each image; of a drawn image the patient whose label set it was made of.

    Raises:
        DataError: the lengths differ.
    """

    score: Float[np.ndarray, "images findings"]
    patients: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.score) != len(self.patients):
            raise DataError(f"{len(self.score)} rows of scores have {len(self.patients)} patients; give one each.")


@dataclass(frozen=True)
class Shift:
    """Scores of one finding on some normals, against real held-out normals.

    Args:
        auroc: chance that one of them scores higher; .5 is no shift. Value and 95 % interval over patients.
        false_positive_rate: share that reaches the threshold.
        held_out_false_positive_rate: the same of real held-out normals.
        shift: the former less the latter.
        images: of the normals; and of their patients.
    """

    auroc: dict[str, Any]
    false_positive_rate: dict[str, Any]
    held_out_false_positive_rate: dict[str, Any]
    shift: dict[str, Any]
    images: int
    patients: int


@dataclass(frozen=True)
class FindingShortcut:
    """The shifts of one finding.

    Args:
        drawn: of drawn normals.
        null: of real training normals.
        round_trip: of real held-out normals after the autoencoder; None where there is none.
        looks_rare: the whole interval of the drawn AUROC lies above .5 and above the null's value; None where it
            is not known.
    """

    drawn: Shift
    null: Shift
    round_trip: Shift | None
    looks_rare: bool | None


@dataclass(frozen=True)
class Shortcut:
    """Every audited finding, and how many real held-out normals there are."""

    findings: dict[str, FindingShortcut]
    held_out_images: int
    held_out_patients: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return dataclasses.asdict(self)


def shortcut(
    drawn: Normals,
    held_out: Normals,
    train: Normals,
    round_trip: Normals | None = None,
    *,
    findings: Sequence[str],
    thresholds: Mapping[str, float],
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Shortcut:
    """Compare the scores of normal images.

    Args:
        drawn: images drawn with a prompt for Normal.
        held_out: real normals of patients that neither the generator nor the auditor learned from.
        train: real normals that the generator learned from and the auditor did not; the null.
        round_trip: the images of `held_out` in the same order, after encoding and decoding.
        findings: of the columns.
        thresholds: finding to the threshold that was fitted on val.
        replicates: of the patient bootstrap.
        seed: of the bootstrap.

    Raises:
        DataError: columns or thresholds are missing, a score is not finite, or the round trip is of other images.
    """
    for name, one in (("drawn", drawn), ("held-out", held_out), ("train", train), ("round-trip", round_trip)):
        if one is not None and one.score.shape[1] != len(findings):
            raise DataError(f"{name} normals have scores of {one.score.shape[1]} findings, expected {len(findings)}.")
        if one is not None and not np.isfinite(one.score).all():
            row = int(np.flatnonzero(~np.isfinite(one.score).all(1))[0])
            raise DataError(f"{name} normals, row {row}: a score is not finite. Score the images again.")
    if missing := [one for one in findings if one not in thresholds]:
        raise DataError(f"{missing[0]} has no threshold: take those of the auditor.")
    if round_trip is not None and list(round_trip.patients) != list(held_out.patients):
        raise DataError("round-trip normals are not the held-out normals in the same order.")
    cuts = np.array([thresholds[one] for one in findings])
    shifts = {
        name: _shifts(one, held_out, cuts, replicates, seed, paired=name == "round_trip")
        for name, one in (("drawn", drawn), ("train", train), ("round_trip", round_trip))
        if one is not None
    }
    found = {}
    for column, finding in enumerate(findings):
        of_synthetic, null = shifts["drawn"][column], shifts["train"][column]
        ends, zero = of_synthetic.auroc["ci"], null.auroc["value"]
        looks_rare = None if ends is None or zero is None else bool(ends[0] > max(0.5, zero))
        back = shifts["round_trip"][column] if "round_trip" in shifts else None
        found[finding] = FindingShortcut(of_synthetic, null, back, looks_rare)
    return Shortcut(found, len(held_out.score), len(set(held_out.patients)))


def _shifts(
    one: Normals, held_out: Normals, cuts: Float[np.ndarray, " findings"], replicates: int, seed: int, *, paired: bool
) -> list[Shift]:
    patients = len(set(one.patients))
    if (few := min(patients, len(set(held_out.patients)))) < LEAST:
        empty = {"value": None, "ci": None, "why": f"normals of only {few} patients: {LEAST} are needed"}
        return [Shift(empty, empty, empty, empty, len(one.score), patients) for _ in cuts]
    # A pair stays together when its patient is drawn; a drawn image and its source share a name, not a body.
    prefix = "" if paired else "other "
    owners = np.array([prefix + name for name in one.patients] + list(held_out.patients))
    owner = np.unique(owners, return_inverse=True)[1]
    score = np.concatenate([one.score, held_out.score]).astype(np.float64)
    member = np.arange(len(score)) < len(one.score)
    truth = np.repeat(member[:, None].astype(np.float64), len(cuts), axis=1)
    areas = patient_bootstrap(truth, score, owner, metrics=(AUROC,), replicates=replicates, seed=seed)["AUC"]
    rates = _rate_replicates(score >= cuts, member, owner, replicates, seed)
    freedom = [effective_patients(side.astype(np.float64), owner) - 1 for side in (member, ~member)]

    found = []
    for column in range(len(cuts)):
        area = auroc(truth[:, column], score[:, column]).value
        assert area is not None  # both sides have images
        reached = score[:, column] >= cuts[column]
        values = [float(reached[side].mean()) for side in (member, ~member)]
        rate, real_rate = (
            with_interval(value, interval(value, rates[place][:, column], freedom[place]))
            for place, value in enumerate(values)
        )
        moved = with_interval(area, interval(area, areas[:, column], min(freedom)))
        found.append(Shift(moved, rate, real_rate, _difference(rate, real_rate), len(one.score), patients))
    return found


def _rate_replicates(
    reached: Bool[np.ndarray, "rows findings"],
    member: Bool[np.ndarray, " rows"],
    owner: Int[np.ndarray, " rows"],
    replicates: int,
    seed: int,
) -> list[Float[np.ndarray, "replicates findings"]]:
    """Shares that reach the threshold on every replicate, of the members and of the others."""
    patients = int(owner.max()) + 1
    counts = np.stack([resample_patients(patients, seed, one) for one in range(replicates)])
    found = []
    for side in (member, ~member):
        rows = np.bincount(owner[side], minlength=patients).astype(np.float64)
        hits = np.zeros((patients, reached.shape[1]))
        np.add.at(hits, owner[side], reached[side])
        with np.errstate(invalid="ignore"):  # 0 / 0: no patient of this side was drawn
            found.append((counts @ hits) / (counts @ rows)[:, None])
    return found


def _difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Interval of a difference from the intervals of both shares, also where a share is 0 (Zou & Donner 2008)."""
    value = one["value"] - other["value"]
    if one["ci"] is None or other["ci"] is None:
        return {"value": value, "ci": None, "why": one.get("why") or other.get("why")}
    down = np.hypot(one["value"] - one["ci"][0], other["ci"][1] - other["value"])
    up = np.hypot(one["ci"][1] - one["value"], other["value"] - other["ci"][0])
    return {"value": value, "ci": [float(value - down), float(value + up)]}
