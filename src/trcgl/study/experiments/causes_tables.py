"""The part `causes` of a study's table in words and rows."""

from collections.abc import Iterator, Mapping
from typing import Any

from trcgl.study.experiments.strata import GAPS, PARTS

Rows = list[tuple[str, ...]]
TITLES = {
    "area": "Tail findings by area of the lesion",
    "contrast": "Tail findings by contrast of the lesion",
    "partner": "Tail findings with and without their usual head partner, images as they come",
    "redrawn": "Tail findings with and without their usual head partner, the same phantoms redrawn",
}
CUT = {
    "area": "thirds of each finding's positives, as many in each, against all negatives",
    "contrast": "thirds of each finding's positives, as many in each, against all negatives",
    "partner": "positives with it against negatives with it, positives without it against negatives without it",
    "redrawn": "every test phantom with the partner and without it, the same in all else; usual: positives with it, "
    "negatives without it; counter: positives without it, negatives with it",
}
WORSE = {
    "area": (
        "small lesions are recognized less well than large ones",
        "large lesions are recognized less well than small ones",
    ),
    "contrast": (
        "faint lesions are recognized less well than strong ones",
        "strong lesions are recognized less well than faint ones",
    ),
    "partner": (
        "tail findings are recognized less well without their partner",
        "tail findings are recognized less well with their partner",
    ),
    "redrawn": (
        "tail findings are recognized less well against their usual company than in it",
        "tail findings are recognized less well in their usual company than against it",
    ),
}

RAISED = {
    "partner": ("the score is higher where the partner is", "the score is lower where the partner is"),
    "redrawn": ("the partner alone raises the score", "the partner alone lowers the score"),
}


def sections(causes: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    """Caption and rows of every table: the arms by kind of stratum, then the contrasts."""
    for kind, title in TITLES.items():
        rows = arm_rows(causes, kind)
        if rows:
            shift = "; shift: what the partner adds to the log-odds in images without the finding"
            yield (
                f"{title} ({CUT[kind]}). AP / AUROC, means over findings and seeds; gap in AP"
                f"{shift if rows[0][-1] == 'shift' else ''}; 95 % intervals.",
                rows,
            )
    if rows := contrast_rows(causes):
        yield (
            "Do the modules help where they should? Difference of two arms in AP (of `shift` in log-odds), with the "
            "smallest that would probably have been found, and in AUROC; plain 95 % intervals, adjusted for nothing: "
            "they show where to look and decide nothing.",
            rows,
        )
    if rows := counted_rows(causes):
        yield "What was counted: positives in each stratum, or why a finding is left out.", rows


def arm_rows(causes: Mapping[str, Any], kind: str) -> Rows:
    """Head and rows of one kind of stratum; empty where nothing could be cut so."""
    arms = {name: told for name, told in causes["arms"].items() if f"{kind}/gap/AP" in told}
    if not arms:
        return []
    more, less = GAPS[kind]
    shift = any(f"{kind}/shift" in told for told in arms.values())
    rows: Rows = [("arm", *PARTS[kind], f"{more} - {less}", *(("shift",) if shift else ()))]
    for name, told in arms.items():
        cells = [f"{told[f'{kind}/{p}/AP']['mean']:.3f} / {told[f'{kind}/{p}/AUC']['mean']:.3f}" for p in PARTS[kind]]
        ends = [f"{kind}/gap/AP"] + ([f"{kind}/shift"] if shift else [])
        rows.append((name, *cells, *(signed(told[key]["mean"], told[key]["interval"]) for key in ends)))
    return rows


def contrast_rows(causes: Mapping[str, Any]) -> Rows:
    """Head and rows of the differences between arms, in AP and in AUROC, and in shift."""
    rows: Rows = [("contrast", "what it tests", "where", "difference [95 %]", "detectable", "in AUROC")]
    areas = {(one["arm"], one["against"], one["key"]): one for one in causes["contrasts"] if one["key"].endswith("AUC")}
    for one in causes["contrasts"]:
        kind, *part = one["key"].split("/")
        if part[-1] == "AUC" or part[0] == "middle" or one["value"] is None:
            continue
        area = areas.get((one["arm"], one["against"], f"{kind}/{part[0]}/AUC"))
        more, less = GAPS[kind]
        where = {"gap": f"{more} - {less}", "shift": "shift"}.get(part[0], part[0])
        found = one.get("detectable")
        rows.append(
            (
                f"{one['arm']} - {one['against']}",
                one["what"],
                f"{kind}: {where}",
                signed(one["value"], one["interval"]),
                "–" if found is None else f"{found:.3f}",
                signed(area["value"], area["interval"]) if area and area["value"] is not None else "–",
            )
        )
    return rows if len(rows) > 1 else []


def counted_rows(causes: Mapping[str, Any]) -> Rows:
    """Head and rows of what every finding brings to each kind of stratum."""
    findings = list(causes["partners"])
    rows: Rows = [("finding", "usual head partner", *PARTS)]
    for finding in findings:
        partner = causes["partners"][finding]
        cells = []
        for told in causes["kinds"].values():
            counted, why = told["positives"].get(finding), told["left_out"].get(finding)
            without = "–" if why == partner.get("why") else why
            cells.append(", ".join(f"{part} {n}" for part, n in counted.items()) if counted else without)
        named = partner.get("why") or (
            f"{partner['finding']} (in {partner['share']:.0%} of train, {partner['lift']:.1f} × chance)"
        )
        rows.append((finding, named, *cells))
    return rows if len(rows) > 1 and causes["kinds"] else []


def answers(causes: Mapping[str, Any]) -> list[str]:
    """What may be said about each cause, in sentences made from the numbers."""
    told = []
    for kind in PARTS:
        first = next((one for one in causes["contrasts"] if one["key"] == f"{kind}/gap/AP"), None)
        if first is None or f"{kind}/gap/AP" not in causes["arms"].get(first["arm"], {}):
            continue
        full = causes["arms"][first["arm"]]
        more, less = GAPS[kind]
        gap = full[f"{kind}/gap/AP"]
        if gap["interval"] is None:
            told.append(
                f"{TITLES[kind]}, {first['arm']}: one seed says nothing of another "
                f"(AP {more} - {less}: {signed(gap['mean'], None)})."
            )
            continue
        sentence = (
            f"{TITLES[kind]}, {first['arm']}: {found(gap['interval'], *WORSE[kind])} "
            f"(AP {more} - {less}: {signed(gap['mean'], gap['interval'])})."
        )
        if shift := full.get(f"{kind}/shift"):
            says = found(shift["interval"], *RAISED[kind])
            sentence += f" In images without the finding, {says} (log-odds {signed(shift['mean'], shift['interval'])})."
        for one in causes["contrasts"]:
            key = one["key"].split("/")
            if one["what"] != "the whole" and one["value"] is not None and key == [kind, less, "AP"]:
                says = found(one["interval"], "it helps", "it harms")
                sentence += f" Where {_lacking(kind)}, {one['what']}: {says} ({signed(one['value'], one['interval'])})."
        told.append(sentence)
    return told


def found(interval: list[float] | None, above: str, below: str) -> str:
    """What an interval says."""
    if interval is None:
        return "nothing can be said"
    return above if interval[0] > 0 else below if interval[1] < 0 else "no difference is shown"


def signed(value: float, interval: list[float] | None) -> str:
    """A difference with its interval."""
    return f"{value:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")


def _lacking(kind: str) -> str:
    return {
        "area": "lesions are small",
        "contrast": "lesions are faint",
        "partner": "the partner is missing",
        "redrawn": "the company is unusual",
    }[kind]
