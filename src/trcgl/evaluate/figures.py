"""Plots of the report: intervals per finding, precision-recall and reliability curves, training curve."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trcgl.core.html import GROUP_COLORS, INK, LINE, MUTED
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics.calibration_error import BINS, mass_bins
from trcgl.metrics.rows import descending, known_rows

WIDTH = 10.4
"""Width in inches at which a page shows a plot in its natural size."""
COLUMNS = 5
POINTS = 120
"""Largest number of points of a curve."""


def in_order(space: LabelSpace, findings: Mapping[str, Any]) -> list[str]:
    """Findings by group, the most frequent first."""
    rank = {group: place for place, group in enumerate((*GROUPS, None))}
    return sorted(space.findings, key=lambda name: (rank[space.groups.get(name)], -findings[name]["positives"]))


def intervals(evaluation: dict[str, Any], space: LabelSpace) -> Figure:
    """AP as bars and AUROC as points, with 95 % intervals and numbers of positive patients."""
    findings = evaluation["findings"]
    names = in_order(space, findings)
    figure = Figure(figsize=(WIDTH, 1.1 + 0.235 * len(names)), layout="constrained")
    precision, area = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    places = [float(place) for place in range(len(names))]
    low = min([0.5, *(finding["AUC"]["ci"][0] for finding in findings.values() if finding["AUC"]["ci"])])
    for place, name in zip(places, names, strict=True):
        color = GROUP_COLORS[space.groups.get(name)]
        finding = findings[name]
        if finding["AP"]["value"] is not None:
            precision.barh(place, finding["AP"]["value"], height=0.66, color=color, alpha=0.85)
            share = finding["positives"] / finding["known"]
            precision.plot([share, share], [place - 0.4, place + 0.4], color=INK, linewidth=1, linestyle=":")
        if finding["AUC"]["value"] is not None:
            area.plot(finding["AUC"]["value"], place, "o", color=color, markersize=5)
        for axes, metric, shade in ((precision, finding["AP"], INK), (area, finding["AUC"], color)):
            _interval(axes, place, metric, shade)
    for axes, title in ((precision, "Average precision"), (area, "AUROC")):
        axes.set_title(title)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
    precision.set_xlim(0, 1)
    area.set_xlim(np.floor(low * 20) / 20 - 0.01, 1.0)
    area.axvline(0.5, color=MUTED, linewidth=1, linestyle=":")
    few = {name: " †" if findings[name]["few"] else "" for name in names}
    precision.set_yticks(places, [f"{name} · {findings[name]['positive_patients']:,}{few[name]}" for name in names])
    precision.set_ylim(len(names) - 0.4, -0.6)
    handles: list[Any] = _group_handles(space)
    handles += [
        Line2D([], [], color=INK, linewidth=1.4, label="95 % interval"),
        Line2D([], [], color=INK, linewidth=1, linestyle=":", label="random scores"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def curves(predictions: Predictions, evaluation: dict[str, Any]) -> tuple[Figure, Figure]:
    """Precision-recall curves and reliability curves, a panel per finding.

    The dot on a precision-recall curve is the threshold fitted on val. The reliability curve is the observed share
    against the mean score in bins of equal mass; each panel has its own scale.
    """
    first, rankings = _panels(predictions.space, evaluation, "AP", "recall", "precision")
    second, calibrations = _panels(predictions.space, evaluation, "ECE", "mean score", "observed share")
    for (ranking, name, column, color), (calibration, *_) in zip(rankings, calibrations, strict=True):
        truth, scores = (array[:, column].astype(np.float64) for array in (predictions.truth, predictions.score))
        positive, score, weight = known_rows(truth, scores, predictions.weight)
        order, ends = descending(score)
        hits = np.cumsum(weight[order] * positive[order])[ends]
        precision, recall = hits / np.cumsum(weight[order])[ends], hits / hits[-1]
        kept = np.unique(np.searchsorted(recall, np.linspace(recall[0], 1, POINTS)))
        levels = np.append(precision[kept[0]], precision[kept])
        ranking.step(np.append(0, recall[kept]), levels, where="post", color=color)
        called = np.flatnonzero(score[order][ends] >= evaluation["findings"][name]["threshold"])
        if len(called):
            ranking.plot(recall[called[-1]], precision[called[-1]], "o", color=INK, markersize=4)
        ranking.set(xlim=(0, 1.02), ylim=(0, 1.04))
        ranking.set_xticks([0, 0.5, 1], ["0", "", "1"])
        ranking.set_yticks([0, 0.5, 1], ["0", "", "1"])

        bins = mass_bins(score, weight)
        mass = np.bincount(bins, weight, minlength=BINS)
        filled = mass > 0
        predicted = np.bincount(bins, weight * score, minlength=BINS)[filled] / mass[filled]
        observed = np.bincount(bins, weight * positive, minlength=BINS)[filled] / mass[filled]
        top = min(1.0, 1.08 * max(predicted.max(), observed.max(), 1e-6))
        calibration.plot([0, top], [0, top], color=MUTED, linewidth=1, linestyle=":")
        calibration.plot(predicted, observed, "-o", color=color, markersize=3, linewidth=1.2)
        calibration.set(xlim=(0, top * 1.02), ylim=(0, top * 1.02))
        calibration.set_xticks([0, top], ["0", f"{top:.2g}"])
        calibration.set_yticks([0, top], ["0", f"{top:.2g}"])
    return first, second


def training_curve(lines: Sequence[dict[str, Any]]) -> Figure | None:
    """Training loss and val mAP over optimizer steps; None where neither was logged."""
    loss = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
    val = {
        name: [(line["step"], line[name]) for line in lines if name in line]
        for name in ("val/mAP", *(f"val/mAP_{group}" for group in GROUPS))
    }
    if not loss and not any(val.values()):
        return None
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    if loss:
        step, value = np.array(loss, np.float64).T
        left.plot(step, value, color=LINE, linewidth=1)
        width = max(1, len(value) // 25)
        smooth = np.convolve(value, np.ones(width) / width, mode="valid")
        left.plot(step[width - 1 :], smooth, color=INK)
    left.set_title("Training loss")
    left.set_xlabel("optimizer steps")
    for name, points in val.items():
        if points:
            group = name.partition("_")[2] or None
            step, value = np.array(points, np.float64).T
            color = GROUP_COLORS[group] if group else INK
            right.plot(step, value, "-o", color=color, markersize=3, label=group or "all")
    right.set_title("mAP on val")
    right.set_xlabel("optimizer steps")
    right.set_ylim(0, 1.2 * right.get_ylim()[1])  # room for the legend
    left.grid()
    right.grid()
    if right.get_legend_handles_labels()[0]:
        right.legend(loc="upper left", ncols=4)
    return figure


def _panels(
    space: LabelSpace, evaluation: dict[str, Any], metric: str, across: str, upwards: str
) -> tuple[Figure, list[tuple[Axes, str, int, str]]]:
    """A figure with a panel per finding; axes, name, column and color of the panels to plot in."""
    findings = evaluation["findings"]
    names = in_order(space, findings)
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.6 + 1.72 * rows))
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    height = figure.get_figheight()
    figure.subplots_adjust(left=0.055, right=0.98, top=1 - 0.35 / height, bottom=0.45 / height, wspace=0.3, hspace=0.55)
    panels, columns = [], {name: column for column, name in enumerate(space.findings)}
    for place, axes in enumerate(grid.flat):
        if place >= len(names):
            axes.set_visible(False)
            continue
        name = names[place]
        finding = findings[name]
        value = "–" if finding[metric]["value"] is None else f"{finding[metric]['value']:.3f}"
        axes.set_title(_short(name), fontsize=8.5, pad=13)
        few = " †" if finding["few"] else ""
        axes.text(
            0, 1.04, f"{metric} {value} · n {finding['positive_patients']:,}{few}",
            transform=axes.transAxes, fontsize=8, color=MUTED,
        )  # fmt: skip
        axes.tick_params(length=0, labelsize=7.5, pad=2)
        axes.grid()
        if finding["AP"]["value"] is None:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.text(0.5, 0.5, finding["AP"]["why"], transform=axes.transAxes, ha="center", fontsize=8, color=MUTED)
        else:
            panels.append((axes, name, columns[name], GROUP_COLORS[space.groups.get(name)]))
    figure.supxlabel(across, fontsize=9, color=INK, y=0.06 / height)
    figure.supylabel(upwards, fontsize=9, color=INK, x=0.005)
    return figure, panels


def _interval(axes: Axes, place: float, metric: dict[str, Any], color: str) -> None:
    right = axes.get_yaxis_transform()
    if metric["value"] is None:
        axes.text(0.01, place, metric["why"], transform=right, va="center", fontsize=8, color=MUTED)
        return
    if metric["ci"]:
        axes.plot(metric["ci"], [place, place], color=color, linewidth=1.4, solid_capstyle="butt")
    axes.text(1.01, place, f"{metric['value']:.3f}", transform=right, va="center", fontsize=8, color=INK)


def _group_handles(space: LabelSpace) -> list[Patch]:
    return [
        Patch(color=GROUP_COLORS[group], label=group, alpha=0.85) for group in GROUPS if group in space.groups.values()
    ]


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
