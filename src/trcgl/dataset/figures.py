"""The paper's Figure 2: the long tail as bars on a log scale, and which finding comes with which."""

from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from trcgl.core.html import CARD, GRID, GROUP_COLORS, INK, MUTED, ON_DARK, ON_LIGHT
from trcgl.dataset.cooccurrence import Cooccurrence
from trcgl.dataset.labels import GROUPS, LabelSpace

BACKED = {"facecolor": CARD, "edgecolor": "none", "pad": 0.8}


def label_distribution(space: LabelSpace, seen: Cooccurrence, title: str) -> Figure:
    """Images per finding on a log scale, most frequent first, colored by group."""
    order = np.argsort(-seen.positives, kind="stable")
    names, values = [space.findings[one] for one in order], seen.positives[order]
    figure = Figure(figsize=(8.6, 1.4 + 0.27 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    colors = [GROUP_COLORS[space.groups.get(name)] for name in names]
    places = np.arange(len(names))
    # A log axis has no zero: a finding without positives keeps its row and says so.
    axes.barh(places, np.maximum(values, 0.8), left=0.8, color=colors, height=0.74)
    prevalence = seen.prevalence()[order]
    for place, value, share in zip(places, values, prevalence, strict=True):
        text = f"{value:,}  ({share:.2%})" if value else "none"
        axes.text(
            max(float(value), 0.8) * 1.12 + 0.8,
            float(place),
            text,
            va="center",
            fontsize=8,
            color=INK,
            zorder=4,
            bbox=BACKED,
        )
    axes.set_xscale("log")
    axes.set_xlim(0.8, max(values.max(initial=1), 10) * 8)
    axes.set_yticks(places, names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("images (log scale), and share of the images with any finding", fontsize=9)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold", pad=16)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    if space.group_rule != "counts" and seen.rows_with_any >= 100:
        for share in (0.01, 0.1):
            axes.axvline(share * seen.rows_with_any, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
            axes.text(share * seen.rows_with_any, -0.75, f"{share:.0%}", ha="center", fontsize=8, color=INK)
    _plain(axes)
    groups = [group for group in GROUPS if group in space.groups.values()]
    handles = [
        Patch(color=GROUP_COLORS[group], label=f"{group} ({sum(one == group for one in space.groups.values())})")
        for group in groups
    ]
    if handles:
        axes.legend(handles=handles, loc="lower right", frameon=False, fontsize=9)
    return figure


def cooccurrence_matrix(space: LabelSpace, seen: Cooccurrence, title: str) -> Figure:
    """P(column | row): of the images with the row's finding, the share that has the column's, too."""
    order = np.argsort(-seen.positives, kind="stable")
    names = [space.findings[one] for one in order]
    share = seen.conditional()[np.ix_(order, order)]
    np.fill_diagonal(share, np.nan)
    count = len(names)
    side = 3.2 + 0.29 * count
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
    axes = figure.add_subplot()
    largest = float(np.nanmax(share)) if count > 1 and np.isfinite(share).any() else 1.0
    # A square root opens up the small shares, where most of the pairs are.
    norm = PowerNorm(0.5, vmin=0, vmax=max(largest, 0.01))
    axes.set_facecolor(GRID)
    shown = axes.imshow(share, cmap="Blues", norm=norm, aspect="equal", interpolation="none")
    for row in range(count):
        for column in range(count):
            value = share[row, column]
            if np.isfinite(value) and value >= 0.05:
                ink = ON_DARK if norm(value) > 0.6 else ON_LIGHT
                axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=6.5, color=ink)
    axes.set_xticks(range(count), names, rotation=90, fontsize=8)
    counted = [f"{name}  {seen.positives[one]:,}" for name, one in zip(names, order, strict=True)]
    axes.set_yticks(range(count), counted, fontsize=8)
    _plain(axes)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, name in zip(labels, names, strict=True):
            label.set_color(GROUP_COLORS[space.groups.get(name)])
    groups = [space.groups.get(name) for name in names]
    for place in range(1, count):
        if groups[place] != groups[place - 1]:
            axes.axhline(place - 0.5, color=CARD, linewidth=2.2)
            axes.axvline(place - 0.5, color=CARD, linewidth=2.2)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_ylabel("given this finding (images)", fontsize=9)
    axes.set_xlabel("share that has this one, too (percent where at least 5)", fontsize=9)
    bar = figure.colorbar(shown, ax=axes, shrink=0.6, pad=0.02)
    bar.set_label("P(column | row)", fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    return figure


def _plain(axes: Any) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, colors=INK)
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set_axisbelow(True)
