"""What a study of utility says: how many images each dose has, which was chosen, and a verdict that is computed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.dataset.manifest import taking_part
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import KEPT, balancing, images_at, open_synthetic, read_provenance
from trcgl.study.wording import adjusted, diverged

HEAD_LOSS = 0.01
"""Head mAP that drawing may cost where a gain is claimed."""

Amounts = list[dict[str, Any]]
"""Of each finding: its real training images, those drawn and kept for it, and what each dose asks for and uses."""


def amounts(synthetic: Path, real: Dataset, doses: Sequence[float]) -> Amounts:
    """How many images there are for every finding that was drawn for or is of the tail.

    Args:
        synthetic: written by `trcgl synthesize` for the dataset.
        real: the dataset.
        doses: of the study.

    Returns:
        For each: finding, group, its `test_patients` (positive ones), `real` training images, `drawn` and `kept` for
        it, and for each dose what it asks for (None for findings that are drawn beside the others, in their
        proportion), what is used, and the dose that is reached.
    """
    told = read_provenance(synthetic)
    drawn = dict(told.group_by("target").len().iter_rows())
    kept = dict(told.filter(pl.col("verdict") == KEPT).group_by("target").len().iter_rows())
    used = {dose: dict(open_synthetic(synthetic, real, dose).targets.value_counts().iter_rows()) for dose in doses}
    train = taking_part(real.manifest.filter(pl.col("split") == "train"))
    test = taking_part(real.manifest.filter(pl.col("split") == "test"))
    aimed = [one for one in drawn if one not in balancing(real.space)] or list(drawn)
    rows = []
    for finding in real.space.findings:
        if finding not in drawn and real.space.groups.get(finding) != "tail":
            continue
        positives = int((train[finding] == 1).sum())
        at_doses = [
            {
                "dose": dose,
                "asked": images_at(dose, positives) if finding in aimed else None,
                "used": used[dose].get(finding, 0),
                "reached": used[dose].get(finding, 0) / positives if positives else None,
            }
            for dose in doses
        ]
        rows.append(
            {
                "finding": finding,
                "group": real.space.groups.get(finding),
                "test_patients": test.filter(pl.col(finding) == 1)["patient_id"].n_unique(),
                "real": positives,
                "drawn": drawn.get(finding, 0),
                "kept": kept.get(finding, 0),
                "doses": at_doses,
            }
        )
    return rows


def complete(
    document: dict[str, Any],
    chosen: dict[str, Any],
    curve: str,
    told: Amounts,
    absent: Mapping[str, str],
    right: int = 0,
) -> dict[str, Any]:
    """The table of a study, with what utility tells besides, and its own verdict.

    Args:
        document: schema `trcgl.study-table/1`.
        chosen: schema `trcgl.utility-choice/1`.
        curve: the schedule at which `duplicated` has every dose.
        told: images of each finding and dose.
        absent: arms and doses that were left out, with the reason.
        right: images of `deranged` whose label set holds what they were drawn for nevertheless.
    """
    added = {"choice": chosen, "curve": curve, "amounts": told, "absent": dict(absent), "deranged_right": right}
    whole = {**document, **added, "outcome": outcome(document["contrasts"])}
    return {**whole, "verdict": verdict(whole)}


def outcome(contrasts: Sequence[dict[str, Any]]) -> str:
    """`gain`, `head loss` (higher in the tail, but at the cost of the head), `no difference`, `loss` or `unknown`.

    A gain is claimed only where the interval of the primary contrast lies above 0 and head mAP loses no more than 0.01,
    against copies and against real images alone. The loss in the head is held to its estimate, not to its interval.
    """
    first = contrasts[0]
    if first["interval"] is None:
        return "unknown"
    low, high = first["interval"]
    if high < 0:
        return "loss"
    if low <= 0:
        return "no difference"
    real, head = _contrast(contrasts, "real"), _head(contrasts)
    if real and real["interval"] is None:
        return "unknown"  # what it costs the head is not known
    return "head loss" if any(value < -HEAD_LOSS for value in head.values()) else "gain"


def verdict(document: dict[str, Any]) -> str:
    """What may be said, in sentences that are made from the numbers."""
    contrasts, chosen = document["contrasts"], document["choice"]
    first = contrasts[0]
    setting = f"dose {chosen['dose']:g}, {chosen['schedule']}, chosen on val"
    against = f"drawn images against as many copies of real ones ({setting})"
    if first["interval"] is None:
        return f"Nothing can be said of {against}: {first['why']}."
    seeds = len(first["seeds"])
    found = f"{_number(first)} in tail mAP over {seeds} seeds"
    head = "; ".join(f"{value:+.4f} against {name}" for name, value in _head(contrasts).items())
    head = f"head mAP: {head}" if head else "there is no head finding to lose"
    said = outcome(contrasts)
    would = f"one of {first['detectable']:.4f} would probably have been"
    opening = {
        "gain": f"A gain: {against} {found}; {head}.",
        "head loss": f"No gain is claimed: {against} {found}, but head mAP loses more than {HEAD_LOSS} ({head}).",
        "no difference": f"No difference shown: {against} {found}; {would}.",
        "loss": f"A loss: {against} {found}.",
        "unknown": f"No gain is claimed: {against} {found}, but what it costs the head is not known, for want of an "
        "interval against real images alone.",
    }[said]
    sentences = [opening, *_short(document), *_against_real(contrasts), *_deranged(document)]
    told = {("drawn", "real"), ("drawn", "deranged")}
    others = [one for one in contrasts[1:] if (what(one["arm"]), what(one["against"])) not in told]
    sentences += adjusted(others, lambda one: f"{one['arm']} - {one['against']}")
    return " ".join(sentences + diverged(document))


def what(arm: str) -> str:
    """The kind of an arm, from its name: `drawn` of `drawn_mix_1`."""
    for schedule in ("_mix_", "_pretrain_"):
        arm = arm.partition(schedule)[0]
    return arm


def at_chosen(document: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The arm of a kind at the chosen dose and schedule; None where there is none."""
    chosen = document["choice"]
    return document["arms"].get(f"{kind}_{chosen['schedule']}_{chosen['dose']:g}")


def _head(contrasts: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What drawing changes in head mAP, against copies and against real images alone."""
    told = {}
    for name, one in (("copies", contrasts[0]), ("real images alone", _contrast(contrasts, "real"))):
        if one and "mAP_head" in one.get("also", {}):
            told[name] = one["also"]["mAP_head"]["value"]
    return told


def _contrast(contrasts: Sequence[dict[str, Any]], against: str) -> dict[str, Any] | None:
    """The contrast of the chosen `drawn` against an arm of a kind."""
    drawn = contrasts[0]["arm"]
    return next((one for one in contrasts[1:] if one["arm"] == drawn and what(one["against"]) == against), None)


def _short(document: dict[str, Any]) -> list[str]:
    """For which findings the kept images do not reach the chosen dose."""
    dose = document["choice"]["dose"]
    aimed = [
        (one["finding"], at)
        for one in document["amounts"]
        for at in one["doses"]
        if at["dose"] == dose and at["asked"] is not None and one["drawn"]
    ]
    short = [f"{finding} {at['reached'] or 0:.2f}" for finding, at in aimed if at["used"] < at["asked"]]
    if not short:
        return []
    return [f"Kept images do not reach the dose for {len(short)} of {len(aimed)} findings ({', '.join(short)})."]


def _against_real(contrasts: Sequence[dict[str, Any]]) -> list[str]:
    one = _contrast(contrasts, "real")
    if one is None or one["interval"] is None:
        return []
    low, high = one["interval"]
    said = "higher" if low > 0 else "lower" if high < 0 else "no difference shown"
    return [f"Against real images alone: {said}, {_number(one)}{_detectable(one)}."]


def _deranged(document: dict[str, Any]) -> list[str]:
    """Whether the same images with deranged labels do as well."""
    one = _contrast(document["contrasts"], "deranged")
    if one is None or one["interval"] is None:
        return []
    low, high = one["interval"]
    number = f"right - deranged: {_number(one)}{_detectable(one)}"
    if low > 0:
        said = f"Right labels do better than deranged ones ({number}): what the images show counts."
    elif high < 0:
        said = f"Deranged labels do better than right ones ({number}): what the images show is not what helps."
    else:
        said = f"Deranged labels are not shown to do worse than right ones ({number}): it may not be what the images "
        said += "show that matters."
    right = document["deranged_right"]
    return [said + (f" {right} of the deranged images have their own finding nevertheless." if right else "")]


def _number(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    return f"{one['value']:+.4f} [{low:+.4f}, {high:+.4f}]"


def _detectable(one: dict[str, Any]) -> str:
    low, high = one["interval"]
    return f", detectable {one['detectable']:.4f}" if low <= 0 <= high else ""
