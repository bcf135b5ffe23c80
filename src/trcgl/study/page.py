"""The page of a study: verdict, means, differences and cost, with a picture of the intervals; one file."""

from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trcgl.core import html, storage
from trcgl.core.html import INK, MUTED, PALETTE
from trcgl.study import tables, utility_tables
from trcgl.study.experiments import causes_tables

WIDTH = 10.4
"""Inches: what a page shows at its natural size."""
SECTIONS = (
    ("verdict", "Verdict"),
    ("picture", "Intervals"),
    ("means", "Means over seeds"),
    ("differences", "Differences"),
    ("causes", "Causes"),
    ("arms", "Arms"),
    ("cost", "Cost"),
    ("again", "Commands"),
)
STYLE = """
.answer { font-size: 1.12rem; max-width: none; }
caption { text-align: left; color: var(--muted); padding: .2rem 0 .4rem; }
tbody th { font-weight: 500; white-space: nowrap; }
td { white-space: nowrap; } td.words { white-space: normal; }
"""


def write_page(out: Path, document: dict[str, Any], cost: dict[str, Any], *, name: str, phantom: bool) -> None:
    """Write study.html and intervals.svg; of utility also doses.svg.

    Args:
        out: the study folder.
        document: schema `trcgl.study-table/1`.
        cost: schema `trcgl.study-cost/1`.
        name: of the dataset.
        phantom: whether its images are drawn by a program.
    """
    svg = html.svg_text(intervals(document))
    storage.write_text(out / "intervals.svg", svg)
    causes = document.get("causes")
    further, curve = [], None
    if document["kind"] == "utility":
        further = utility_tables.sections(document)
        curve = html.svg_text(utility_tables.dose_curve(document))
        storage.write_text(out / "doses.svg", curve)
    body = (
        html.environment("trcgl.study")
        .get_template("study.html.j2")
        .render(
            document=document,
            picture=Markup(html.inline_svg(svg, "Tail mAP of every arm and its difference, with intervals")),
            curve=Markup(html.inline_svg(curve, "Tail mAP at every dose")) if curve else None,
            further=further,
            means=tables.mean_rows(document),
            differences=tables.difference_rows(document),
            gates=tables.gate_rows(document),
            unused=tables.unused_modules(document),
            looks=tables.looked_before(document),
            edges=document.get("edges"),
            answers=causes_tables.answers(causes) if causes else [],
            causes=list(causes_tables.sections(causes)) if causes else [],
            cost=tables.cost_rows(cost),
            command=storage.read_json(out / "command.json")["command"],
        )
    )
    page = html.page(
        f"Study: {document['kind']}",
        body,
        subtitle=f"{name}: {len(document['arms'])} arms, {document['seeds']} seeds each, judged on test.",
        phantom=phantom,
        sections=(
            *SECTIONS[:2],
            *([("curve", "Dose curve")] if curve else []),
            *((one.id, one.title) for one in further),
            *(one for one in SECTIONS[2:] if one[0] != "causes" or causes),
        ),
        style=STYLE,
    )
    storage.write_text(out / "study.html", page)


def intervals(document: dict[str, Any]) -> Figure:
    """Left, tail mAP of every arm: each seed, their mean, its interval. Right, every contrast with its interval."""
    arms, contrasts = document["arms"], document["contrasts"]
    with html.house_style():
        height = 1.2 + 0.3 * max(len(arms), len(contrasts))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        left, right = figure.subplots(1, 2)
        for place, arm in enumerate(arms.values()):
            told = arm["metrics"]["mAP_tail"]
            seeds = [one for one in told["values"] if one is not None]
            left.plot(seeds, [place + 0.27] * len(seeds), "o", color=PALETTE["plain"][0], markersize=3.5, alpha=0.8)
            if told["mean"] is not None:
                _bar(left, place, told["mean"], arm["interval"], PALETTE["tail"][0])
        left.set_yticks(range(len(arms)), list(arms))
        left.set_title("Tail mAP, 95 % interval; small points: seeds")
        for place, one in enumerate(contrasts):
            if one["value"] is None:
                continue
            sure = one["interval"] and not one["interval"][0] <= 0 <= one["interval"][1]
            _bar(right, place, one["value"], one["interval"], PALETTE["tail" if sure else "plain"][0])
        right.axvline(0, color=MUTED, linewidth=1, linestyle=":")
        right.set_yticks(range(len(contrasts)), [f"{one['arm']} - {one['against']}" for one in contrasts])
        right.set_title("Difference in tail mAP, adjusted")
        for axes, rows in ((left, len(arms)), (right, len(contrasts))):
            axes.grid(axis="x")
            axes.tick_params(length=0)
            axes.set_ylim(rows - 0.4, -0.6)
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.spines["left"].set_visible(False)
        return figure


def _bar(axes: Any, place: int, value: float, ends: list[float] | None, color: str) -> None:
    if ends:
        axes.plot(ends, [place, place], color=color, linewidth=2.2, solid_capstyle="butt")
    axes.plot(value, place, "D", color=color, markeredgecolor=INK, markeredgewidth=0.6, markersize=5.5)
