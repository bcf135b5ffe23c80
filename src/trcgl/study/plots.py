"""The plots of a study: arms and contrasts with their intervals, and the dose curve of utility."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trcgl.core import html
from trcgl.core.html import INK, MUTED, PALETTE
from trcgl.study.wording import by_effect, decided, names_of

WIDTH = 5.0
"""Inches: readable on a phone, where the page scales a figure to its width."""
SERIES = {"synthetic": ("tail", "o"), "duplicated": ("head", "s")}


def intervals(document: dict[str, Any]) -> Figure:
    """Above, the contrasts by effect; below, tail mAP of every arm: each seed, their mean, its interval."""
    arms, contrasts = document["arms"], by_effect(document["contrasts"])
    rows = [len(contrasts), len(arms)]
    with html.house_style():
        figure = Figure(figsize=(WIDTH, 1.5 + 0.36 * sum(rows)), layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=[count + 0.8 for count in rows])
        for place, contrast in enumerate(contrasts):
            if contrast["value"] is not None:
                sure = contrast["interval"] and decided(contrast["interval"])
                color = PALETTE["tail" if sure else "plain"][0]
                _bar(above, place, contrast["value"], contrast["interval"], color)
        above.axvline(0, color=MUTED, linewidth=1, linestyle=":")
        for place, arm in enumerate(arms.values()):
            metric = arm["metrics"]["mAP_tail"]
            seeds = [value for value in metric["values"] if value is not None]
            below.plot(seeds, [place + 0.2] * len(seeds), "o", color=PALETTE["plain"][0], markersize=3, alpha=0.8)
            if metric["mean"] is not None:
                _bar(below, place, metric["mean"], arm["interval"], PALETTE["tail"][0])
        above.set_title("Difference in tail mAP, adjusted intervals")
        below.set_title("Tail mAP with 95 % interval; small points: seeds")
        for axes, names in ((above, list(map(names_of, contrasts))), (below, list(arms))):
            for place, name in enumerate(names):
                axes.annotate(name, (0, place - 0.22), xycoords=("axes fraction", "data"), fontsize=8.5, va="center")
            axes.set_yticks([])
            axes.grid(axis="x")
            axes.tick_params(length=0)
            axes.set_ylim(len(names) - 0.4, -0.7)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.spines["left"].set_visible(False)
        return figure


def dose_curve(document: dict[str, Any]) -> Figure:
    """Above, tail mAP on test by dose; below, tail mAP on val of every setting that the choice has seen."""
    with html.house_style():
        figure = Figure(figsize=(WIDTH, 6.0), layout="constrained")
        above, below = figure.subplots(2, 1)
        doses = sorted({candidate["dose"] for candidate in document["choice"]["candidates"]})
        _plot_test(above, document, doses)
        _plot_val(below, document["choice"])
        for axes in (above, below):
            axes.set_xscale("log", base=2)
            axes.set_xticks(doses, [f"{dose:g}" for dose in doses])
            axes.minorticks_off()
            axes.grid(axis="y")
            axes.tick_params(length=0)
            axes.legend()
        below.set_xlabel("dose: images per real training image of the finding")
        return figure


def _bar(axes: Any, place: int, value: float, ends: list[float] | None, color: str) -> None:
    if ends:
        axes.plot(ends, [place + 0.2] * 2, color=color, linewidth=2.2, solid_capstyle="butt")
    axes.plot(value, place + 0.2, "D", color=color, markeredgecolor=INK, markeredgewidth=0.6, markersize=5)


def _plot_test(axes: Any, document: dict[str, Any], doses: Sequence[float]) -> None:
    real = document["arms"]["real"]["metrics"]["mAP_tail"]["mean"]
    if real is not None:
        axes.axhline(real, color=PALETTE["plain"][0], linestyle="--", label="real images alone")
    for place, (kind, (color, marker)) in enumerate(SERIES.items()):
        arms = {dose: document["arms"].get(f"{kind}_{document['curve']}_{dose:g}") for dose in doses}
        finished = {dose: arm for dose, arm in arms.items() if arm and arm["metrics"]["mAP_tail"]["mean"] is not None}
        beside = 1.02 ** (2 * place - 1)  # so that two intervals at one dose are both visible
        at = [dose * beside for dose in finished]
        means = [arm["metrics"]["mAP_tail"]["mean"] for arm in finished.values()]
        axes.plot(at, means, color=PALETTE[color][0], marker=marker, markersize=5, label=kind)
        for x, arm in zip(at, finished.values(), strict=True):
            if arm["interval"]:
                axes.plot([x, x], arm["interval"], color=PALETTE[color][0], linewidth=1, alpha=0.6)
    axes.set_title(f"Tail mAP on test, {document['curve']}; bars: 95 % intervals")


def _plot_val(axes: Any, choice: dict[str, Any]) -> None:
    schedules = dict.fromkeys(candidate["schedule"] for candidate in choice["candidates"])
    for schedule, color in zip(schedules, ("tail", "medium"), strict=False):
        candidates = [found for found in choice["candidates"] if found["schedule"] == schedule]
        means = {found["dose"]: found["mean"] for found in candidates if found["mean"] is not None}
        style = {"color": PALETTE[color][0], "marker": "o", "markersize": 5}
        axes.plot(list(means), list(means.values()), label=f"synthetic, {schedule}", **style)
        if schedule == choice["schedule"]:
            ring = {"markersize": 12, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": "none"}
            axes.plot([choice["dose"]], [means[choice["dose"]]], marker="o", label="chosen", **ring)
    axes.set_title("Tail mAP on val, mean over the choosing seeds")
