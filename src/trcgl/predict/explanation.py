"""The scores and maps of one radiograph, and their figure in the manner of Figures 4 and 5 of the paper."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from trcgl.core import html
from trcgl.core.html import GROUP_COLORS, INK, MUTED, PALETTE
from trcgl.dataset.labels import LabelSpace
from trcgl.predict.overlay import heat, over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS = 12
"""Fewest bars in the plot of scores: the findings with maps, then the highest scores."""
NO_EVIDENCE = "no evidence for it"
_COLUMNS = 5


@dataclass(frozen=True)
class Explanation:
    """One radiograph with its scores and maps; `overlays` and `figure` are paths below the output folder."""

    image_id: str
    picture: UInt8[np.ndarray, "height width"]
    """The radiograph in its own proportions, reduced."""
    layers: Mapping[int, Float[np.ndarray, "rows columns"]]
    """Map by column of the finding, in the proportions of the picture; empty for a radiograph not on the page."""
    scores: Float[np.ndarray, " findings"]
    truth: Float[np.ndarray, " findings"] | None
    overlays: Mapping[int, str]
    """Overlay at full resolution by column of the finding."""
    figure: str

    def label(self, column: int) -> str:
        """`present`, `absent` or `unknown`; empty for files, which have no labels."""
        if self.truth is None:
            return ""
        value = self.truth[column]
        return "unknown" if np.isnan(value) else "present" if value == 1 else "absent"

    def to_dict(self, findings: Sequence[str]) -> dict[str, Any]:
        """Plain JSON value."""
        truth = None
        if self.truth is not None:
            known = zip(findings, self.truth, strict=True)
            truth = {finding: None if np.isnan(value) else int(value) for finding, value in known}
        return {
            "image_id": self.image_id,
            "scores": dict(zip(findings, self.scores.tolist(), strict=True)),
            "truth": truth,
            "overlays": {findings[column]: path for column, path in self.overlays.items()},
            "figure": self.figure,
        }


def plot(explanation: Explanation, space: LabelSpace, thresholds: Mapping[str, float] | None) -> "Figure":
    """The radiograph, the decision region of each finding, and the scores beside thresholds and labels."""
    from matplotlib.figure import Figure
    from PIL import Image

    panels = 1 + len(explanation.layers)
    columns = min(panels, _COLUMNS)
    rows = -(-panels // columns)
    with html.house_style():
        figure = Figure(figsize=(2.2 * columns + 4.2, max(2.5 * rows, 3.4)), layout="constrained")
        grid = figure.add_gridspec(rows, columns + 1, width_ratios=[*([1.0] * columns), 1.7])
        axes = figure.add_subplot(grid[0, 0])
        axes.set_axis_off()
        axes.imshow(explanation.picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title("radiograph", fontsize=9)
        for place, (column, layer) in enumerate(explanation.layers.items(), 1):
            axes = figure.add_subplot(grid[divmod(place, columns)])
            axes.set_axis_off()
            picture = Image.fromarray(explanation.picture).resize(layer.shape[::-1])
            axes.imshow(over(np.asarray(picture), heat(layer)))
            title = textwrap.fill(space.findings[column].replace("_", " "), 22)
            label = explanation.label(column)
            axes.set_title(f"{title}\n{explanation.scores[column]:.3f}" + (f", {label}" if label else ""), fontsize=9)
            if not layer.any():
                below = axes.transAxes
                axes.text(0.5, -0.02, NO_EVIDENCE, transform=below, ha="center", va="top", fontsize=8, color=MUTED)
        _plot_scores(figure.add_subplot(grid[:, columns]), explanation, space, thresholds)
    return figure


def _plot_scores(
    axes: "Axes", explanation: Explanation, space: LabelSpace, thresholds: Mapping[str, float] | None
) -> None:
    scores, mapped = explanation.scores, list(explanation.overlays)
    others = [column for column in np.argsort(-scores, kind="stable").tolist() if column not in mapped]
    shown = sorted([*mapped, *others][: max(BARS, len(mapped))], key=lambda column: -scores[column])
    for place, column in enumerate(shown):
        finding = space.findings[column]
        axes.barh(place, scores[column], height=0.62, color=GROUP_COLORS[space.groups.get(finding)], alpha=0.85)
        if thresholds:
            axes.plot([thresholds[finding]] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.2)
        label = explanation.label(column)
        color = PALETTE["tail"][0] if label == "present" else MUTED
        text = f"{scores[column]:.3f}" + (f" · {label}" if label else "")
        axes.text(1.02, place, text, va="center", fontsize=8, color=color, transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(shown)), [space.findings[column] for column in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_title("score" + (" (line: threshold)" if thresholds else ""))
    axes.tick_params(length=0)
    axes.grid(axis="x")
