"""The page of a study: what was found, plots and tables in one file."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from trcgl.core import html, storage
from trcgl.study import plots, tables
from trcgl.study.registry import explored

STYLE = """
caption { text-align: left; color: var(--muted); padding: .2rem 0 .4rem; }
table { width: 100%; } tbody th { font-weight: 500; overflow-wrap: break-word; } td.number { white-space: normal; }
figure > svg { width: min(36rem, 100%); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 48rem) {
  table, tbody, tr, tbody th, td, caption { display: block; }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  tbody th, td, td.number { border: 0; padding: .1rem .2rem; text-align: left; overflow-wrap: anywhere; }
  tbody th { font-weight: 600; }
  td:empty { display: none; } td::before { content: attr(data-label) ": "; color: var(--muted); }
}
"""


def write_page(out: Path, document: dict[str, Any], cost: dict[str, Any], *, name: str, phantom: bool) -> None:
    """Write study.html and intervals.svg; for utility also doses.svg.

    Args:
        out: the study folder.
        document: schema `trcgl.study-table/1`.
        cost: schema `trcgl.study-cost/1`.
        name: name of the dataset.
        phantom: whether the images of the dataset are rendered phantoms.
    """
    plotted = {"intervals": (plots.intervals(document), "Tail mAP of every arm and every difference, with intervals")}
    if document["kind"] == "utility":
        plotted["doses"] = (plots.dose_curve(document), "Tail mAP at every dose")
    figures = {}
    for file, (figure, label) in plotted.items():
        svg = html.svg_text(figure)
        storage.write_text(out / f"{file}.svg", svg)
        figures[file] = Markup(html.inline_svg(svg, label))
    shown = [*tables.tables_of(document), tables.arms_table(document), tables.cost_table(cost)]
    found = tables.sentences(document)
    body = (
        html.environment("trcgl.study")
        .get_template("study.html.j2")
        .render(
            further=found[2:] + explored(document).answers,
            notes=tables.notes(document),
            figures=figures,
            tables=shown,
            command=storage.read_json(out / "command.json")["command"],
        )
    )
    page = html.page(
        f"Study: {document['kind']}",
        body,
        lead=" ".join(found[:2]),
        subtitle=f"{name}: {len(document['arms'])} arms with {document['seeds']} seeds each, compared on test.",
        phantom=phantom,
        sections=(("plot", "Intervals"), *((table.id, table.title) for table in shown)),
        style=STYLE,
    )
    storage.write_text(out / "study.html", page)
