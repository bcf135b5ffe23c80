"""Answers and tables of the part `causes` of a study's table."""

from collections.abc import Mapping
from typing import Any

from trcgl.study.experiments.strata import GAPS, PARTS
from trcgl.study.wording import POWERED, Rows, Table, change, decided, names_of

DIGITS = 3
TITLES = {
    "area": "Tail findings by area of the lesion",
    "contrast": "Tail findings by contrast of the lesion",
    "partner": "Tail findings with and without their usual head partner, in images as they are",
    "counterfactual": "Tail findings with and without their usual head partner, in counterfactual phantoms",
}
THIRDS = "thirds of each finding's positives, equally many in each, against all negatives"
STRATA = {
    "area": THIRDS,
    "contrast": THIRDS,
    "partner": "positives with it against negatives with it, positives without it against negatives without it",
    "counterfactual": "every test phantom rendered with the partner and without it, otherwise the same; usual: "
    "positives with it, negatives without it; counter: positives without it, negatives with it",
}
LESS_WELL = {
    "area": "{} lesions are recognized less well than {} ones",
    "contrast": "{} lesions are recognized less well than {} ones",
    "partner": "tail findings are recognized less well {} their partner",
    "counterfactual": "tail findings are recognized less well {} their usual company than {} it",
}
"""Kind to the meaning of a gap, with the weaker stratum first."""
IN_WORDS = {"usual": "in", "counter": "against"}
RAISED = {
    "partner": ("the score is higher where the partner is present", "the score is lower where the partner is present"),
    "counterfactual": ("the partner alone raises the score", "the partner alone lowers the score"),
}
HARD = {
    "area": "lesions are small",
    "contrast": "lesions are faint",
    "partner": "the partner is missing",
    "counterfactual": "the company is unusual",
}


def answers(causes: Mapping[str, Any]) -> list[str]:
    """One sentence or more for each kind of stratum."""
    found = []
    for kind in PARTS:
        gap_key = f"{kind}/gap/AP"
        first = next((contrast for contrast in causes["contrasts"] if contrast["key"] == gap_key), None)
        if first is None or gap_key not in causes["arms"].get(first["arm"], {}):
            continue
        arm = causes["arms"][first["arm"]]
        more, less = GAPS[kind]
        gap = arm[gap_key]
        number = f"(AP {more} - {less}: {change(gap['mean'], gap['interval'], DIGITS)})"
        if gap["interval"] is None:
            found.append(f"{TITLES[kind]}, {first['arm']}: one seed has no interval {number}.")
            continue
        strong, weak = IN_WORDS.get(more, more), IN_WORDS.get(less, less)
        says = _verdict(gap["interval"], LESS_WELL[kind].format(weak, strong), LESS_WELL[kind].format(strong, weak))
        answer = f"{TITLES[kind]}, {first['arm']}: {says} {number}."
        if shift := arm.get(f"{kind}/shift"):
            says = _verdict(shift["interval"], *RAISED[kind])
            number = change(shift["mean"], shift["interval"], DIGITS)
            answer += f" In images without the finding, {says} (log-odds {number})."
        for contrast in causes["contrasts"]:
            hard_stratum = contrast["key"] == f"{kind}/{less}/AP"
            if hard_stratum and contrast["what"] != "the whole" and contrast["value"] is not None:
                says = _verdict(contrast["interval"], "it helps", "it harms")
                number = change(contrast["value"], contrast["interval"], DIGITS)
                answer += f" Where {HARD[kind]}, {contrast['what']}: {says} ({number})."
        found.append(answer)
    return found


def tables_of(causes: Mapping[str, Any]) -> list[Table]:
    """Arms by kind of stratum, contrasts, counted positives."""
    found = []
    for kind, title in TITLES.items():
        if rows := _arm_rows(causes, kind):
            caption = f"Strata: {STRATA[kind]}. AP / AUROC, means over findings and seeds; gap in AP"
            if rows[0][-1] == "shift":
                caption += "; shift: change of the log-odds by the partner in images without the finding"
            found.append(Table(f"causes-{kind}", title, f"{caption}; 95 % intervals", rows, folded=True))
    if rows := _contrast_rows(causes):
        caption = (
            "Do the modules help where they should? Difference of two arms in AP (of `shift` in log-odds), the "
            f"smallest difference detectable with {POWERED}, and the difference in AUROC. Exploratory: plain 95 % "
            "intervals, not adjusted"
        )
        found.append(Table("causes-contrasts", "Modules by stratum", caption, rows, folded=True))
    if rows := _counted_rows(causes):
        caption = "Positives in each stratum, or the reason why a finding is left out"
        found.append(Table("causes-counted", "Positives by stratum", caption, rows, prose=True, folded=True))
    return found


def _arm_rows(causes: Mapping[str, Any], kind: str) -> Rows:
    """A row for each arm; empty if no arm has this kind of stratum."""
    arms = {name: arm for name, arm in causes["arms"].items() if f"{kind}/gap/AP" in arm}
    if not arms:
        return []
    more, less = GAPS[kind]
    shift = any(f"{kind}/shift" in arm for arm in arms.values())
    keys = [f"{kind}/gap/AP", *([f"{kind}/shift"] if shift else [])]
    rows: Rows = [("arm", *PARTS[kind], f"{more} - {less}", *(("shift",) if shift else ()))]
    for name, arm in arms.items():
        means = [
            " / ".join(f"{arm[f'{kind}/{part}/{metric}']['mean']:.3f}" for metric in ("AP", "AUC"))
            for part in PARTS[kind]
        ]
        rows.append((name, *means, *(change(arm[key]["mean"], arm[key]["interval"], DIGITS) for key in keys)))
    return rows


def _contrast_rows(causes: Mapping[str, Any]) -> Rows:
    rows: Rows = [("contrast", "tested", "where", "difference [95 %]", "detectable", "in AUROC")]
    areas = {
        (names_of(contrast), contrast["key"]): change(contrast["value"], contrast["interval"], DIGITS)
        for contrast in causes["contrasts"]
        if contrast["value"] is not None
    }
    for contrast in causes["contrasts"]:
        kind, part, *metric = contrast["key"].split("/")
        if metric == ["AUC"] or part == "middle" or contrast["value"] is None:
            continue
        name, where = names_of(contrast), " - ".join(GAPS[kind]) if part == "gap" else part
        detectable = f"{contrast['detectable']:.3f}" if "detectable" in contrast else "–"
        area = areas.get((name, f"{kind}/{part}/AUC"), "–")
        rows.append((name, contrast["what"], f"{kind}: {where}", areas[name, contrast["key"]], detectable, area))
    return rows if len(rows) > 1 else []


def _counted_rows(causes: Mapping[str, Any]) -> Rows:
    rows: Rows = [("finding", "usual head partner", *PARTS)]
    for finding, partner in causes["partners"].items():
        cells = []
        for kind in causes["kinds"].values():
            counted, why = kind["positives"].get(finding), kind["left_out"].get(finding)
            without = "–" if why == partner.get("why") else why
            cells.append(", ".join(f"{part} {number}" for part, number in counted.items()) if counted else without)
        named = partner.get("why") or (
            f"{partner['finding']} (in {partner['share']:.0%} of train, {partner['lift']:.1f} × chance)"
        )
        rows.append((finding, named, *cells))
    return rows if len(rows) > 1 and causes["kinds"] else []


def _verdict(interval: list[float] | None, above: str, below: str) -> str:
    if interval is None:
        return "nothing can be said"
    return {1: above, -1: below, 0: "no difference is shown"}[decided(interval)]
