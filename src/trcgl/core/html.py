"""The shell of every page and the house style of every figure: one file, offline, in light and dark.

A page starts with `lead`: what was found, in two sentences. Figures are inline SVG whose colors follow the reader's
light or dark scheme; wide tables and figures scroll inside their own box, so that no page scrolls sideways on a phone.
Text colors reach a contrast of 4.5 : 1 on their background in both schemes (WCAG 2.2, AA).
"""

import base64
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from trcgl import __version__

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

PALETTE: dict[str, tuple[str, str]] = {
    "card": ("#ffffff", "#192027"),
    "ink": ("#22303c", "#e6ebf0"),
    "muted": ("#566472", "#a7b3bf"),
    "line": ("#d5dce3", "#36424d"),
    "grid": ("#e6ebef", "#2a343d"),
    "head": ("#2b5c8a", "#7fb2e5"),
    "medium": ("#1c7a6f", "#4ec5b5"),
    "tail": ("#c0374b", "#f58a99"),
    "plain": ("#697788", "#93a1b0"),
}
"""Name to (light, dark). `head`, `medium` and `tail` color the groups; `plain` colors findings without a group."""

CARD, INK, MUTED, LINE, GRID = (PALETTE[name][0] for name in ("card", "ink", "muted", "line", "grid"))
GROUP_COLORS: dict[str | None, str] = {
    "head": PALETTE["head"][0],
    "medium": PALETTE["medium"][0],
    "tail": PALETTE["tail"][0],
    None: PALETTE["plain"][0],
}
"""Distinct in hue and in lightness, also to readers with a color vision deficiency."""

ON_LIGHT, ON_DARK = "#1b2733", "#fdfdfe"
"""Ink on a color that is the same in both schemes, for instance on a dark cell of a heat map."""

_FONT = "DejaVu Sans"
_STYLE: dict[str, Any] = {
    "figure.facecolor": CARD,
    "savefig.facecolor": CARD,
    "axes.facecolor": CARD,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "font.family": "sans-serif",
    "font.sans-serif": [_FONT],
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "trcgl",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the house style to figures made inside; `matplotlib.figure.Figure` needs no display."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]  # its stub names every key literally
        yield


def page(
    title: str,
    body: str,
    notice: bool = True,
    *,
    lead: str = "",
    subtitle: str = "",
    phantom: bool = False,
    sections: Sequence[tuple[str, str]] = (),
    style: str = "",
) -> str:
    """A whole page around `body`.

    `body`: HTML, used unchanged: text from a user must be escaped already. `lead`: what was found, in two sentences a
    clinician understands; plain text, or `Markup` with links. It stands above everything else, in a box. `sections`:
    (id, name) of headings in `body`, for the list of links at the top. `style`: additional CSS for this page.
    """
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            body=Markup(body),
            notice=notice,
            lead=lead,
            subtitle=subtitle,
            phantom=phantom,
            sections=sections,
            style=Markup(style),
            palette=PALETTE,
            version=__version__,
        )
    )


@cache
def environment(package: str = "trcgl.core") -> "Environment":
    """Jinja environment for the templates (`*.j2`) of a package, which can call `table` and `figure`.

    Every value is escaped unless it is `Markup`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {"table": table, "figure": figure}
    return templates


def table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """A table that scrolls inside its own box where it is wider than the page.

    `rows`: cells of each row; integers get thousands separators and stand right, `Markup` is used unchanged, the rest
    is escaped. The first cell names the row.
    """
    lines = []
    for first, *cells in rows:
        written = Markup().join(
            Markup('<td class="number">{:,}</td>').format(cell)
            if isinstance(cell, int)
            else Markup("<td>{}</td>").format(cell)
            for cell in cells
        )
        lines.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(first, written))
    columns = Markup().join(Markup('<th scope="col">{}</th>').format(name) for name in header)
    title = Markup("<caption>{}</caption>").format(caption) if caption else ""
    inside = Markup("<table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table>")
    return scrolling(inside.format(title, columns, Markup("\n").join(lines)), caption or ", ".join(header))


def scrolling(content: Markup, label: str) -> Markup:
    """Content in a box that scrolls sideways; `label` names the box for screen readers."""
    return Markup('<div class="scroll" tabindex="0" role="region" aria-label="{}">{}</div>').format(label, content)


def figure(plot: "Figure", description: str, caption: str = "") -> Markup:
    """A plot as a `<figure>` that follows the light or dark scheme; `description` is read aloud instead of it."""
    below = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    svg = Markup(figure_svg(plot, description))
    return Markup("<figure>{}{}</figure>").format(scrolling(svg, description), below)


def png_uri(data: bytes) -> str:
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def figure_svg(figure: "Figure", description: str) -> str:
    """A plot as an `<svg>` element that follows the page's scheme; `description` is read aloud instead of it.

    Colors of `PALETTE` become the page's variables, all others stay.
    """
    return inline_svg(svg_text(figure), description)


def svg_text(figure: "Figure") -> str:
    """A plot as an SVG document in the light scheme; the same plot gives the same bytes."""
    stream = io.StringIO()
    with house_style():
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def inline_svg(document: str, description: str) -> str:
    """An SVG document of `svg_text` as an element for a page."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Matplotlib numbers its groups anew in each figure; on one page the ids would clash, and nothing refers to them.
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    for name, (light, _) in PALETTE.items():
        svg = svg.replace(f": {light}", f": var(--{name})")
    svg = svg.replace(f"'{_FONT}'", "var(--font)")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
