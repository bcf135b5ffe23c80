"""The paper's Figure 2: the long tail as bars on a log scale, and which finding comes with which.

Plots are made inside `core.html.house_style` and follow the light or dark scheme where a page shows them.
"""

from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from trcgl.core.html import CARD, GROUP_COLORS, INK, MUTED, ON_DARK
from trcgl.dataset.cooccurrence import Cooccurrence
from trcgl.dataset.labels import GROUPS, LabelSpace

_SHARES = LinearSegmentedColormap.from_list("shares", ["#2b5c8a00", "#2b5c8aff"]).with_extremes(bad="#80808040")
"""From transparent to blue, so that small shares have the color of the page in light and dark."""


def label_distribution(space: LabelSpace, seen: Cooccurrence, title: str) -> Figure:
    """Bars of the images per finding on a log scale, most frequent first, colored by group."""
    order = np.argsort(-seen.positives, kind="stable")
    names, values = [space.findings[place] for place in order], seen.positives[order]
    figure = Figure(figsize=(8.6, 1.4 + 0.27 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    # A log axis has no zero: the bar of a finding without positives ends where the axis starts.
    lengths = np.maximum(values, 0.8)
    axes.barh(names, lengths, left=0.8, color=[GROUP_COLORS[space.groups.get(name)] for name in names], height=0.74)
    for row, (value, length, share) in enumerate(zip(values, lengths, seen.prevalence()[order], strict=True)):
        text = f"{value:,}  ({share:.2%})" if value else "none"
        backed = {"facecolor": CARD, "edgecolor": "none", "pad": 0.8}
        axes.text(float(length) * 1.12 + 0.8, row, text, va="center", fontsize=8, zorder=4, bbox=backed)
    axes.set_xscale("log")
    axes.set_xlim(0.8, max(values.max(initial=1), 10) * 8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("images (log scale), and share of the images with any finding")
    axes.set_title(title, fontsize=11, pad=16)
    axes.grid(axis="x")
    if space.group_rule == "prevalence" and seen.rows_with_any >= 100:
        for share in (0.01, 0.1):
            axes.axvline(share * seen.rows_with_any, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
            axes.text(share * seen.rows_with_any, -0.75, f"{share:.0%}", ha="center", fontsize=8)
    _without_frame(axes)
    sizes = {group: list(space.groups.values()).count(group) for group in GROUPS}
    handles = [Patch(color=GROUP_COLORS[group], label=f"{group} ({size})") for group, size in sizes.items() if size]
    if handles:
        axes.legend(handles=handles, loc="lower right")
    return figure


def cooccurrence_matrix(space: LabelSpace, seen: Cooccurrence, title: str) -> Figure:
    """Heat map of P(column | row): of the images with the row's finding, the share that also has the column's."""
    order = np.argsort(-seen.positives, kind="stable")
    names = [space.findings[place] for place in order]
    groups = [space.groups.get(name) for name in names]
    share = seen.conditional()[np.ix_(order, order)]
    np.fill_diagonal(share, np.nan)
    count = len(names)
    side = 3.2 + 0.29 * count
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
    axes = figure.add_subplot()
    largest = float(np.nanmax(share)) if count > 1 and np.isfinite(share).any() else 1.0
    # A square root opens up the small shares, where most of the pairs are.
    norm = PowerNorm(0.5, vmin=0, vmax=max(largest, 0.01))
    shown = axes.imshow(share, cmap=_SHARES, norm=norm, aspect="equal", interpolation="none")
    for (row, column), value in np.ndenumerate(share):
        if np.isfinite(value) and value >= 0.05:
            ink = ON_DARK if norm(value) > 0.6 else INK
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=6.5, color=ink)
    axes.set_xticks(range(count), names, rotation=90, fontsize=8)
    labels = [f"{name}  {seen.positives[place]:,}" for name, place in zip(names, order, strict=True)]
    axes.set_yticks(range(count), labels, fontsize=8)
    _without_frame(axes)
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, group in zip(ticks, groups, strict=True):
            label.set_color(GROUP_COLORS[group])
    for place in range(1, count):
        if groups[place] != groups[place - 1]:
            axes.axhline(place - 0.5, color=CARD, linewidth=2.2)
            axes.axvline(place - 0.5, color=CARD, linewidth=2.2)
    axes.set_title(title, fontsize=11)
    axes.set_ylabel("given this finding (images)")
    axes.set_xlabel("share that also has this finding (percent where at least 5)")
    bar = figure.colorbar(shown, ax=axes, shrink=0.6, pad=0.02)
    bar.set_label("P(column | row)")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    return figure


def _without_frame(axes: Any) -> None:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, which="both")
