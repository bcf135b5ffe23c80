"""The report of a study of utility: images at each dose, the outcome, its sentences and its tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core.recipe import Recipe
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import KEPT, balancing, images_at, open_synthetic, read_provenance
from trcgl.metrics.intervals import FEW
from trcgl.study import wording
from trcgl.study.wording import Contrast, Rows, Table, change, decided, known, spread

HEAD_LOSS = 0.01
"""Loss of head mAP up to which a gain is claimed."""


def amounts(synthetic: Path, real: Dataset, doses: Sequence[float], base: Recipe | None = None) -> list[dict[str, Any]]:
    """Numbers of images for every finding that has synthetic images or is a tail finding.

    `base` gives the views of the real images, in training and in test.

    Returns:
        For each finding: its group, positive `test_patients`, `real` training images, `synthetic` and `kept` images
        generated for it, and for each dose the number `asked` for (None for balancing findings, which are taken in
        proportion), the number `used`, and the dose `reached`.
    """
    verdicts = read_provenance(synthetic)
    generated = dict(verdicts.group_by("target").len().iter_rows())
    kept = dict(verdicts.filter(pl.col("verdict") == KEPT).group_by("target").len().iter_rows())
    base = base or Recipe()
    views = base.train.views
    opened = {dose: open_synthetic(synthetic, real, dose, views) for dose in doses}
    used = {dose: dict(rows.targets.value_counts().iter_rows()) for dose, rows in opened.items()}
    train, test = real.split("train", views=views), real.split("test", views=base.evaluate.views)
    dosed = [finding for finding in generated if finding not in balancing(real.space)] or list(generated)

    def at_dose(finding: str, dose: float, positives: int) -> dict[str, Any]:
        number = used[dose].get(finding, 0)
        asked = images_at(dose, positives) if finding in dosed else None
        return {"dose": dose, "asked": asked, "used": number, "reached": number / positives if positives else None}

    return [
        {
            "finding": finding,
            "group": real.space.groups.get(finding),
            "test_patients": test.filter(pl.col(finding) == 1)["patient_id"].n_unique(),
            "real": (positives := int((train[finding] == 1).sum())),
            "synthetic": generated.get(finding, 0),
            "kept": kept.get(finding, 0),
            "doses": [at_dose(finding, dose, positives) for dose in doses],
        }
        for finding in real.space.findings
        if finding in generated or real.space.groups.get(finding) == "tail"
    ]


def complete(document: dict[str, Any], **added: Any) -> dict[str, Any]:
    """The table of a study with the parts that only utility has.

    They are `choice` (schema `trcgl.utility-choice/1`); `curve`, the schedule at which `duplicated` has every dose;
    `amounts`; `absent`, arms and doses that were left out with the reason; `deranged_right`, how many images of
    `deranged` have a label set with their own target nevertheless.
    """
    whole = {**document, **added, "outcome": outcome(document["contrasts"])}
    return {**whole, "verdict": " ".join(sentences(whole))}


def outcome(contrasts: Sequence[Contrast]) -> str:
    """`gain`, `head loss` (a gain for the tail at the cost of the head), `no difference`, `loss` or `unknown`.

    A gain is claimed only if the interval of the primary contrast lies above 0 and head mAP loses at most 0.01 against
    duplicates and against real images alone. Head mAP is compared by its estimate, not by its interval.
    """
    first = contrasts[0]
    if first["interval"] is None:
        return "unknown"
    sign = decided(first["interval"])
    if sign <= 0:
        return "loss" if sign else "no difference"
    real = _contrast(contrasts, "real")
    if real and real["interval"] is None:
        return "unknown"  # the cost to the head is not known
    return "head loss" if any(value < -HEAD_LOSS for value in _head(contrasts).values()) else "gain"


def sentences(document: dict[str, Any]) -> list[str]:
    """What the study found: the outcome, unreached doses, the other contrasts, diverged runs."""
    contrasts, choice = document["contrasts"], document["choice"]
    first = contrasts[0]
    setting = f"dose {choice['dose']:g}, {choice['schedule']}, chosen on val"
    compared = f"synthetic images compared with the same number of duplicates of real images ({setting})"
    if first["interval"] is None:
        return [f"Nothing can be said of {compared}: {first['why']}."]
    found = f"{compared} change tail mAP by {wording.change_over_seeds(first)}"
    head = "; ".join(f"{value:+.4f} against {name}" for name, value in _head(contrasts).items())
    head = f"head mAP: {head}" if head else "there is no head finding to lose"
    opening = {
        "gain": f"A gain: {found}; {head}.",
        "head loss": f"No gain is claimed: {found}, but head mAP loses more than {HEAD_LOSS} ({head}).",
        "no difference": f"No difference shown: {found}; {wording.would_be_detected(first)}.",
        "loss": f"A loss: {found}.",
        "unknown": f"No gain is claimed: {found}, but what it costs the head is not known, because the contrast with "
        "real images alone has no interval.",
    }[outcome(contrasts)]
    reported = {("synthetic", "real"), ("synthetic", "deranged")}
    others = [found for found in contrasts[1:] if (kind_of(found["arm"]), kind_of(found["against"])) not in reported]
    return [
        opening,
        *_against_real(contrasts),
        *_unreached(document),
        *_deranged(document),
        *wording.adjusted(others, wording.names_of),
        *wording.diverged(document),
    ]


def tables_of(document: dict[str, Any]) -> list[Table]:
    """The tables that only utility has."""
    choice = document["choice"]
    setting = f"dose {choice['dose']:g}, {choice['schedule']}"
    caption = f"Tail mAP of synthetic on val, mean over seeds; {setting} was chosen. Test took no part"
    found = [Table("choice", "Choice on val", caption, _choice_rows(choice))]
    caption = (
        f"Average precision on test at {setting}, mean ± standard deviation over seeds, and the number of images that "
        f"synthetic and duplicated both have; * fewer than {FEW} positive test patients"
    )
    found.append(Table("tail", "Tail findings", caption, _finding_rows(document), folded=True))
    caption = (
        "Images used of those asked for, and the dose reached. The number of kept images limits what can be used. "
        "Balancing findings are taken in the same proportion as the others"
    )
    found.append(Table("doses", "Doses", caption, _dose_rows(document), folded=True))
    if document["absent"]:
        rows = [("left out", "why"), *document["absent"].items()]
        found.append(Table("absent", "Left out", "Arms and doses that this study does not have", rows, True, True))
    return found


def kind_of(arm: str) -> str:
    """The kind of an arm from its name: `synthetic` for `synthetic_mix_1`."""
    for schedule in ("_mix_", "_pretrain_"):
        arm = arm.partition(schedule)[0]
    return arm


def _choice_rows(choice: dict[str, Any]) -> Rows:
    rows: Rows = [("dose", "schedule", "tail mAP on val", "seeds", "chosen")]
    for candidate in choice["candidates"]:
        mean, seeds = known(candidate["mean"], ".4f"), str(len(candidate["seeds"]))
        chosen = (candidate["dose"], candidate["schedule"]) == (choice["dose"], choice["schedule"])
        rows.append((f"{candidate['dose']:g}", candidate["schedule"], mean, seeds, "yes" if chosen else ""))
    return rows


def _finding_rows(document: dict[str, Any]) -> Rows:
    choice = document["choice"]
    suffix = f"{choice['schedule']}_{choice['dose']:g}"
    arms = [document["arms"].get(name) for name in ("real", f"duplicated_{suffix}", f"synthetic_{suffix}")]
    rows: Rows = [
        ("finding", "test patients", "real", "duplicated", "synthetic", "asked", "kept", "used", "dose reached")
    ]
    for row in document["amounts"]:
        if row["group"] == "tail":
            at = next(at for at in row["doses"] if at["dose"] == choice["dose"])
            patients = f"{row['test_patients']:,}{'*' if row['test_patients'] < FEW else ''}"
            cells = [spread(arm["findings"][row["finding"]]) if arm and arm["findings"] else "–" for arm in arms]
            counts = [known(number, ",") for number in (at["asked"], row["kept"], at["used"])]
            rows.append((row["finding"], patients, *cells, *counts, known(at["reached"], ".2f")))
    return rows


def _dose_rows(document: dict[str, Any]) -> Rows:
    doses = [at["dose"] for at in document["amounts"][0]["doses"]]
    rows: Rows = [("finding", "group", "real", "synthetic", "kept", *(f"dose {dose:g}" for dose in doses))]
    for row in document["amounts"]:
        counts = [f"{row[name]:,}" for name in ("real", "synthetic", "kept")]
        used = [
            f"{at['used']:,}"
            + ("" if at["asked"] is None else f" of {at['asked']:,}")
            + ("" if at["reached"] is None else f" ({at['reached']:.2f})")
            for at in row["doses"]
        ]
        rows.append((row["finding"], row["group"] or "", *counts, *used))
    return rows


def _head(contrasts: Sequence[Contrast]) -> dict[str, float]:
    """Change of head mAP against duplicates and against real images alone."""
    compared = {"duplicates": contrasts[0], "real images alone": _contrast(contrasts, "real")}
    return {
        name: contrast["also"]["mAP_head"]["value"]
        for name, contrast in compared.items()
        if contrast and "mAP_head" in contrast.get("also", {})
    }


def _contrast(contrasts: Sequence[Contrast], against: str) -> Contrast | None:
    """The contrast of the chosen `synthetic` arm with an arm of a kind."""
    arm = contrasts[0]["arm"]
    same_arm = [contrast for contrast in contrasts[1:] if contrast["arm"] == arm]
    return next((contrast for contrast in same_arm if kind_of(contrast["against"]) == against), None)


def _unreached(document: dict[str, Any]) -> list[str]:
    dose = document["choice"]["dose"]
    amounts = [(row, at) for row in document["amounts"] for at in row["doses"] if at["dose"] == dose]
    dosed = {row["finding"]: at for row, at in amounts if at["asked"] is not None and row["synthetic"]}
    short = [f"{finding} {at['reached'] or 0:.2f}" for finding, at in dosed.items() if at["used"] < at["asked"]]
    reach = f"Kept images do not reach the dose for {len(short)} of {len(dosed)} findings ({', '.join(short)})."
    return [reach] if short else []


def _against_real(contrasts: Sequence[Contrast]) -> list[str]:
    contrast = _contrast(contrasts, "real")
    if contrast is None or contrast["interval"] is None:
        return []
    found = {1: "higher", -1: "lower", 0: "no difference shown"}[decided(contrast["interval"])]
    return [f"Compared with real images alone: {found}, {_number(contrast)}."]


def _deranged(document: dict[str, Any]) -> list[str]:
    contrast = _contrast(document["contrasts"], "deranged")
    if contrast is None or contrast["interval"] is None:
        return []
    number = f"right - deranged: {_number(contrast)}"
    found = {
        1: f"Right labels do better than deranged labels ({number}): the content of the images matters.",
        -1: f"Deranged labels do better than right labels ({number}): the content of the images is not what helps.",
        0: f"Deranged labels are not shown to do worse than right labels ({number}): the content of the images may not "
        "be what matters.",
    }[decided(contrast["interval"])]
    if right := document["deranged_right"]:
        found += f" {right} of the deranged images have their own finding nevertheless."
    return [found]


def _number(contrast: Contrast) -> str:
    found = change(contrast["value"], contrast["interval"])
    return found if decided(contrast["interval"]) else f"{found}, detectable {contrast['detectable']:.4f}"
