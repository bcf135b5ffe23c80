"""What a study of utility shows besides: the choice, tail findings, images of each dose, and the dose curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from trcgl.core import html
from trcgl.core.html import INK, PALETTE
from trcgl.metrics.intervals import FEW
from trcgl.study.utility_report import at_chosen
from trcgl.study.wording import spread

Rows = list[tuple[str, ...]]
SERIES = {"drawn": ("tail", "o"), "duplicated": ("head", "s")}


@dataclass(frozen=True)
class Section:
    """A heading with a table.

    Args:
        id: of the heading.
        title: its text.
        caption: what the table shows.
        rows: head and rows.
        words: its cells hold words rather than numbers.
    """

    id: str
    title: str
    caption: str
    rows: Rows
    words: bool = False


def sections(document: dict[str, Any]) -> list[Section]:
    """The tables that only utility has."""
    chosen = document["choice"]
    setting = f"dose {chosen['dose']:g}, {chosen['schedule']}"
    told = [
        Section(
            "choice",
            "Choice on val",
            f"Tail mAP of drawn on val, mean over seeds, and which setting that chose: {setting}. Test took no part",
            choice_rows(document),
        ),
        Section(
            "tail",
            "Tail findings",
            f"Average precision on test, mean ± standard deviation over seeds, at {setting}, and the images that "
            f"drawn and duplicated have for it alike; * fewer than {FEW} positive test patients",
            finding_rows(document),
        ),
        Section(
            "doses",
            "Doses",
            "Images used of those asked for, and the dose that is reached. Kept images bound what can be used, and "
            "copies are as many as are used. Findings drawn beside the others are taken in the same proportion",
            dose_rows(document),
        ),
    ]
    if document["absent"]:
        rows = [("left out", "why"), *document["absent"].items()]
        told.append(Section("absent", "Left out", "Arms and doses that this study does not have", rows, words=True))
    return told


def choice_rows(document: dict[str, Any]) -> Rows:
    """Head and rows of what val said of every dose and schedule."""
    chosen = document["choice"]
    rows: Rows = [("dose", "schedule", "tail mAP on val", "seeds", "chosen")]
    for one in chosen["candidates"]:
        mean = "–" if one["mean"] is None else f"{one['mean']:.4f}"
        best = (one["dose"], one["schedule"]) == (chosen["dose"], chosen["schedule"])
        rows.append((f"{one['dose']:g}", one["schedule"], mean, str(len(one["seeds"])), "yes" if best else ""))
    return rows


def finding_rows(document: dict[str, Any]) -> Rows:
    """Head and rows of every tail finding at the chosen dose and schedule."""
    arms = [document["arms"]["real"], at_chosen(document, "duplicated"), at_chosen(document, "drawn")]
    rows: Rows = [("finding", "test patients", "real", "duplicated", "drawn", "asked", "kept", "used", "reached dose")]
    for one in document["amounts"]:
        if one["group"] != "tail":
            continue
        at = next(at for at in one["doses"] if at["dose"] == document["choice"]["dose"])
        cells = [spread(arm["findings"][one["finding"]]) if arm and arm["findings"] else "–" for arm in arms]
        reached = "–" if at["reached"] is None else f"{at['reached']:.2f}"
        few = "*" if one["test_patients"] < FEW else ""
        counts = ("–" if at["asked"] is None else f"{at['asked']:,}", f"{one['kept']:,}", f"{at['used']:,}")
        rows.append((one["finding"], f"{one['test_patients']:,}{few}", *cells, *counts, reached))
    return rows


def dose_rows(document: dict[str, Any]) -> Rows:
    """Head and rows of how many images there are for every finding."""
    doses = [at["dose"] for at in document["amounts"][0]["doses"]]
    rows: Rows = [("finding", "group", "real", "drawn", "kept", *(f"dose {one:g}" for one in doses))]
    for one in document["amounts"]:
        counts = [f"{one[name]:,}" for name in ("real", "drawn", "kept")]
        rows.append((one["finding"], one["group"] or "", *counts, *map(_used, one["doses"])))
    return rows


def _used(at: dict[str, Any]) -> str:
    of = "" if at["asked"] is None else f" of {at['asked']:,}"
    return f"{at['used']:,}{of}" + ("" if at["reached"] is None else f" ({at['reached']:.2f})")


def dose_curve(document: dict[str, Any]) -> Figure:
    """Left, tail mAP on test of drawn images and of copies at every dose; right, what val said of every setting."""
    with html.house_style():
        figure = Figure(figsize=(10.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        candidates = document["choice"]["candidates"]
        doses = sorted({one["dose"] for one in candidates})
        _test(left, document, doses)
        _val(right, document["choice"], candidates)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xticks(doses, [f"{one:g}" for one in doses])
            axes.minorticks_off()
            axes.set_xlabel("dose: images for a finding ÷ its real training images")
            axes.grid(axis="y")
            axes.tick_params(length=0)
            axes.legend()
        return figure


def _test(axes: Any, document: dict[str, Any], doses: Sequence[float]) -> None:
    real = document["arms"]["real"]
    if real["metrics"]["mAP_tail"]["mean"] is not None:
        axes.axhline(real["metrics"]["mAP_tail"]["mean"], color=PALETTE["plain"][0], linestyle="--", label="real alone")
    for place, (what, (color, marker)) in enumerate(SERIES.items()):
        arms = {dose: document["arms"].get(f"{what}_{document['curve']}_{dose:g}") for dose in doses}
        there = {dose: arm for dose, arm in arms.items() if arm and arm["metrics"]["mAP_tail"]["mean"] is not None}
        beside = 1.02 ** (2 * place - 1)  # so that two intervals at one dose are both seen
        at = [dose * beside for dose in there]
        means = [arm["metrics"]["mAP_tail"]["mean"] for arm in there.values()]
        axes.plot(at, means, color=PALETTE[color][0], marker=marker, markersize=5, label=what)
        for x, arm in zip(at, there.values(), strict=True):
            if arm["interval"]:
                axes.plot([x, x], arm["interval"], color=PALETTE[color][0], linewidth=1, alpha=0.6)
    axes.set_title(f"Tail mAP on test, {document['curve']}; bars: 95 % intervals")


def _val(axes: Any, chosen: dict[str, Any], candidates: Sequence[dict[str, Any]]) -> None:
    for schedule, color in zip(dict.fromkeys(one["schedule"] for one in candidates), ("tail", "medium"), strict=False):
        there = [one for one in candidates if one["schedule"] == schedule and one["mean"] is not None]
        at, means = [one["dose"] for one in there], [one["mean"] for one in there]
        axes.plot(at, means, color=PALETTE[color][0], marker="o", markersize=5, label=schedule)
        if schedule == chosen["schedule"]:
            value = means[at.index(chosen["dose"])]
            ring = {"markersize": 12, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": "none"}
            axes.plot([chosen["dose"]], [value], marker="o", label="chosen", **ring)
    axes.set_title("Tail mAP of drawn on val, mean over seeds")
