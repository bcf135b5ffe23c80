"""The page of an audit: a verdict for every finding with its reason and its null, and the images to look at."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from trcgl.audit.pictures import pictures
from trcgl.audit.scored_images import Material
from trcgl.core import html, storage
from trcgl.core.html import CARD, INK, MUTED, PALETTE

PAGE = "audit.html"
SECTIONS = (
    ("findings", "Findings"),
    ("images", "Images"),
    ("guidance", "Guidance"),
    ("tokens", "Tokens"),
    ("together", "All together"),
    ("readers", "Readers"),
    ("method", "Method and limits"),
)
STYLE = """
.verdict { font-weight: 700; white-space: nowrap; } .verdict.pass { color: var(--medium); }
.verdict.fail, .verdict.not-drawable { color: var(--tail); } .verdict.too-easy { color: var(--head); }
.verdict.not-assessable { color: var(--muted); }
.why, .ci { color: var(--muted); } td .ci, .together { white-space: nowrap; }
#overview tbody tr:first-child > * { border-bottom: 0; } #overview .reason td { padding-top: 0; max-width: 60rem; }
#overview .ci { display: block; font-size: .92em; } #overview .real { display: block; margin-top: .3rem; }
#overview .real b { font-weight: 400; } .caution { color: var(--tail); }
#overview, .numbers { font-size: .86rem; }
#overview th, #overview td, .numbers th, .numbers td { padding: .32rem .55rem; }
tbody th { font-weight: 600; white-space: nowrap; }
caption { text-align: left; color: var(--muted); padding: .2rem 0 .4rem; }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .45rem; }
.swatch.head { background: var(--head); } .swatch.medium { background: var(--medium); }
.swatch.tail { background: var(--tail); } .swatch.plain { background: var(--plain); }
.pictures { display: flex; flex-wrap: wrap; gap: .9rem; } .pictures figure { margin: 0; padding: .6rem; }
.pictures img { display: block; background: #000; border-radius: 3px; }
.pictures .pixels { image-rendering: pixelated; }
.pictures figcaption { font-size: .8rem; margin: .3rem 0 .1rem; overflow-wrap: anywhere; }
.pictures .kind { font-size: .72rem; font-weight: 600; color: var(--muted); margin: .15rem 0; }
.beside { display: flex; gap: .35rem; } .pictures figure { box-sizing: border-box; }
h3.finding { font-size: 1.12rem; margin-top: 2.2rem; }
h4 { margin: 1.1rem 0 .4rem; font-size: .95rem; }
"""


def write_report(folder: Path, told: dict[str, Any], material: Material) -> Path:
    """Write `audit.html`.

    Args:
        folder: the audit folder.
        told: the content of `audit.json`.
        material: the images behind it.

    Returns:
        The page.
    """
    seed = told["options"]["seed"]
    shown = {
        finding: pictures(material, finding, one["memorization"], seed) for finding, one in told["findings"].items()
    }
    body = _template().render(
        audit=told,
        shown=shown,
        spaces=list(told["options"]["features"]),
        figures={"guidance": _guidance(told["guidance"])},
        slug=_slug,
    )
    page = html.page(
        f"Audit of {told['synthetic']}",
        body,
        subtitle=f"Drawn for {told['dataset']}: {len(told['findings'])} findings, "
        f"{told['options']['each']} images of each with it and as many without; {told['held_out']['images']:,} "
        f"held-out real images of {told['held_out']['patients']:,} patients.",
        phantom=told["phantom"],
        sections=[(key, title) for key, title in SECTIONS if f'id="{key}"' in body],
        style=STYLE,
    )
    path = folder / PAGE
    storage.write_text(path, page)
    return path


def _guidance(sweep: list[dict[str, Any]]) -> Markup | None:
    """Label fidelity and hit rate against diversity, a point for each guidance scale."""
    found = [[value["vendi"]["drawn"]["value"] for value in one["diversity"].values()] for one in sweep]
    points = [(one, [x for x in values if x is not None]) for one, values in zip(sweep, found, strict=True)]
    points = [(one, spread) for one, spread in points if spread and one["auroc"]["value"] is not None]
    if not points:
        return None
    with html.house_style():
        figure = Figure(figsize=(9.6, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        across = [float(np.mean(spread)) for _, spread in points]
        for axes, name, title, color in (
            (left, "auroc", "Label fidelity: mean AUROC", PALETTE["head"][0]),
            (right, "hit_rate", "Hit rate, and false-positive rate (open)", PALETTE["tail"][0]),
        ):
            values = [one[name]["value"] for one, _ in points]
            axes.plot(across, values, color=color, linewidth=1, alpha=0.5)
            for x, (one, _), y in zip(across, points, values, strict=True):
                if one[name]["ci"]:
                    axes.plot([x, x], one[name]["ci"], color=color, linewidth=1.2)
                axes.plot(x, y, "o", color=color, markersize=8 if one["own"] else 5)
                scale = "own" if one["guidance"] is None else f"{one['guidance']:g}"
                axes.annotate(scale, (x, y), (6, 5), textcoords="offset points", color=INK, fontsize=9)
            axes.set_title(title)
            axes.set_xlabel("diversity: mean Vendi score of a finding's images")
            axes.grid(axis="y")
        false = [one["false_positive_rate"]["value"] for one, _ in points]
        right.plot(across, false, "o", color=MUTED, markerfacecolor=CARD, markersize=5)
        left.axhline(0.5, color=MUTED, linewidth=1, linestyle=":")
        words = "Label fidelity and hit rate against diversity at every guidance scale"
        return Markup(html.figure_svg(figure, words))


def _template() -> Any:
    environment = html.environment("trcgl.audit")
    environment.filters["number"] = lambda value, digits=3: f"{value:.{digits}f}"
    environment.filters["percent"] = lambda value: f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
    environment.filters["sentence"] = lambda words: f"{words[:1].upper()}{words[1:]}."
    environment.filters["thousands"] = lambda value: f"{value:,}"
    environment.filters["small"] = _small
    environment.filters["probability"] = lambda value: "below 0.001" if value < 0.001 else f"{value:.3f}"
    return environment.get_template("audit.html.j2")


def _small(value: float) -> str:
    """Three significant digits without an exponent: distances are small."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _slug(finding: str) -> str:
    return "finding-" + "".join(one if one.isalnum() else "-" for one in finding.lower())
