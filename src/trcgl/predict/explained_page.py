"""What `trcgl explain` shows of each radiograph: a figure in the manner of the paper's Figures 4 and 5, and a page."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from markupsafe import Markup

from trcgl.core import html, storage
from trcgl.core.html import GROUP_COLORS, INK, MUTED, PALETTE
from trcgl.dataset.labels import LabelSpace
from trcgl.model.folder import LoadedModel
from trcgl.model.maps import Kind
from trcgl.predict.overlay import heat, heat_uri, jpeg_uri, over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ON_PAGE = 60
"""So many radiographs are on the page, so that it stays light; files are written of all."""
BARS = 12
"""Confidences in a figure: the findings that are drawn, then the highest."""
EMPTY = "nothing speaks for it"
KIND_WORDS: dict[str, str] = {"attention": "attention maps of the head", "grad_cam": "Grad-CAM"}
STYLE = """
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .9rem; }
.shots figure { margin: 0; padding: .6rem; } .shots figcaption { font-size: .86rem; margin-top: .5rem;
  overflow-wrap: anywhere; }
.shot { position: relative; width: 100%; background-size: 100% 100%; border-radius: 5px; overflow: hidden; }
.shot img { position: absolute; inset: 0; width: 100%; height: 100%; }
.shot .box { position: absolute; border: 2px dashed #ffd84d; border-radius: 2px; }
body:has(#hide:checked) .shot img, body:has(#hide:checked) .shot .box { visibility: hidden; }
.switch { display: inline-flex; gap: .5rem; align-items: center; margin: .6rem 0; }
.switch input { width: 1.1rem; height: 1.1rem; }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .45rem; }
.swatch.head { background: var(--head); } .swatch.medium { background: var(--medium); }
.swatch.tail { background: var(--tail); } .swatch.plain { background: var(--plain); }
.wrong { color: var(--tail); font-weight: 600; } h2 code { font-size: .9em; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Explained:
    """One radiograph with its scores and maps.

    Args:
        image_id: what it is called.
        picture: in the proportions of the file, small.
        layers: map by column of the finding, in the same proportions; empty for a radiograph that is not on the page.
        scores: probabilities, in the model's order.
        truth: 1 present, 0 absent, NaN unknown; None where nothing is known.
        overlays: file of the overlay at full resolution by column, relative to the output folder.
        figure: file of the figure, relative to the output folder.
    """

    image_id: str
    picture: UInt8[np.ndarray, "height width"]
    layers: Mapping[int, Float[np.ndarray, "rows columns"]]
    scores: Float[np.ndarray, " findings"]
    truth: Float[np.ndarray, " findings"] | None
    overlays: Mapping[int, str]
    figure: str

    def to_dict(self, findings: Sequence[str]) -> dict[str, Any]:
        """Plain JSON value."""
        truth = None
        if self.truth is not None:
            truth = {
                one: None if np.isnan(value) else int(value) for one, value in zip(findings, self.truth, strict=True)
            }
        return {
            "image_id": self.image_id,
            "scores": {one: float(score) for one, score in zip(findings, self.scores, strict=True)},
            "truth": truth,
            "overlays": {findings[column]: path for column, path in self.overlays.items()},
            "figure": self.figure,
        }


def safe_name(name: str) -> str:
    """A name as one part of a path on any system, without the ending of an image file; shortened where it is long."""
    name = re.sub(r"\.(png|jpe?g|dcm)$", "", name, flags=re.IGNORECASE)
    name = re.sub(r"[^\w.-]+", "_", name)
    # A part has 255 bytes at most, and endings and names of temporary files are still to come.
    return name.encode()[:200].decode(errors="ignore").strip(".") or "_"


def figure(told: Explained, space: LabelSpace, thresholds: Mapping[str, float] | None) -> "Figure":
    """The radiograph, the decision region of each finding, and confidences beside thresholds and truth."""
    from matplotlib.figure import Figure

    panels = 1 + len(told.layers)
    columns = min(panels, 5)
    rows = -(-panels // columns)
    with html.house_style():
        drawing = Figure(figsize=(2.2 * columns + 4.2, max(2.5 * rows, 3.4)), layout="constrained")
        grid = drawing.add_gridspec(rows, columns + 1, width_ratios=[*([1.0] * columns), 1.7])
        for place in range(panels):
            axes = drawing.add_subplot(grid[divmod(place, columns)])
            axes.set_axis_off()
            if place == 0:
                axes.imshow(told.picture, cmap="gray", vmin=0, vmax=255)
                axes.set_title("radiograph", fontsize=9)
                continue
            column = list(told.layers)[place - 1]
            axes.imshow(_fitted(told, column))
            title = textwrap.fill(space.findings[column].replace("_", " "), 22)
            axes.set_title(f"{title}\n{told.scores[column]:.3f}{_truth_word(told, column)}", fontsize=9)
            if _empty(told, column):
                axes.text(0.5, -0.02, EMPTY, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=MUTED)
        _confidences(drawing.add_subplot(grid[:, columns]), told, space, thresholds)
    return drawing


def write_page(
    path: Path,
    told: Sequence[Explained],
    model: LoadedModel,
    kind: Kind,
    unreadable: Sequence[Mapping[str, str]],
    *,
    phantom: bool,
) -> None:
    """One self-contained page of the first `ON_PAGE` radiographs.

    Args:
        path: the file.
        told: radiographs in order.
        model: that looked at them.
        kind: of maps.
        unreadable: image_id and reason.
        phantom: whether the images were drawn by a program.
    """
    shown = [one for one in told if one.layers]
    body = template("explained.html.j2").render(
        shown=[_entry(one, model) for one in shown],
        left_out=len(told) - len(shown),
        unreadable=unreadable,
        kind=KIND_WORDS[kind],
        calibrated=model.thresholds is not None,
    )
    pictures = [(f"i{place}", one.picture) for place, one in enumerate(shown, 1)]
    page = html.page(
        "Where the model looked",
        body,
        subtitle=f"{len(told):,} radiographs, {KIND_WORDS[kind]}.",
        phantom=phantom,
        style=STYLE + backgrounds(pictures),
    )
    storage.write_text(path, page)


def backgrounds(pictures: Sequence[tuple[str, UInt8[np.ndarray, "_ _"]]]) -> str:
    """CSS that gives each class its radiograph as background: once on the page, however often it is shown."""
    rules = []
    for name, pixels in pictures:
        rows, columns = pixels.shape
        rules.append(f".{name} {{ background-image: url({jpeg_uri(pixels)}); aspect-ratio: {columns} / {rows}; }}")
    return "\n".join(rules)


def _entry(told: Explained, model: LoadedModel) -> dict[str, Any]:
    space, thresholds = model.space, model.thresholds or {}
    drawn = []
    for column, values in told.layers.items():
        finding = space.findings[column]
        drawn.append(
            {
                "finding": finding,
                "group": space.groups.get(finding),
                "score": float(told.scores[column]),
                "threshold": thresholds.get(finding),
                "empty": EMPTY if _empty(told, column) else "",
                "truth": _truth_word(told, column).removeprefix(", "),
                "heat": Markup(heat_uri(values)),
                "file": told.overlays[column],
            }
        )
    return {"image_id": told.image_id, "figure": told.figure, "drawn": drawn}


def _empty(told: Explained, column: int) -> bool:
    """Whether the map has no place that speaks for the finding; without a word it would look like a defect."""
    return not told.layers[column].any()


def _truth_word(told: Explained, column: int) -> str:
    if told.truth is None:
        return ""
    value = told.truth[column]
    return ", label unknown" if np.isnan(value) else ", present" if value == 1 else ", absent"


def _fitted(told: Explained, column: int) -> UInt8[np.ndarray, "height width 3"]:
    """The small picture at the size of its map, with the map over it."""
    from PIL import Image

    rows, columns = told.layers[column].shape
    return over(np.asarray(Image.fromarray(told.picture).resize((columns, rows))), heat(told.layers[column]))


def _confidences(axes: "Axes", told: Explained, space: LabelSpace, thresholds: Mapping[str, float] | None) -> None:
    highest = [int(one) for one in np.argsort(-told.scores, kind="stable") if int(one) not in told.overlays]
    chosen = sorted([*told.overlays, *highest][: max(BARS, len(told.overlays))], key=lambda one: -told.scores[one])
    for place, column in enumerate(chosen):
        finding = space.findings[column]
        axes.barh(place, told.scores[column], height=0.62, color=GROUP_COLORS[space.groups.get(finding)], alpha=0.85)
        if thresholds:
            axes.plot([thresholds[finding]] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.2)
        word = _truth_word(told, column).removeprefix(", ")
        color = PALETTE["tail"][0] if word == "present" else MUTED
        text = f"{told.scores[column]:.3f}" + (f" · {word}" if word else "")
        axes.text(1.02, place, text, va="center", fontsize=8, color=color, transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(chosen)), [space.findings[one] for one in chosen])
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_title("confidence" + (" (line: threshold)" if thresholds else ""))
    axes.tick_params(length=0)
    axes.grid(axis="x")


def template(name: str) -> Any:
    """A page of `trcgl.predict`, which may write `{{ score | probability }}`."""
    environment = html.environment("trcgl.predict")
    environment.filters["probability"] = probability
    return environment.get_template(name)


def probability(value: float) -> str:
    """Three decimals, and never a 0 that is none."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
