"""The page of a study: what was found, plots and tables in one file."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from trcgl.core import html, storage
from trcgl.study import plots, tables
from trcgl.study.registry import explored


def write_page(out: Path, document: dict[str, Any], cost: dict[str, Any], *, name: str, phantom: bool) -> None:
    """Write study.html and intervals.svg; for utility also doses.svg."""
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
    templates = html.environment("trcgl.study")
    body = templates.get_template("study.html.j2").render(
        further=found[2:] + explored(document)[0],
        notes=tables.notes(document),
        figures=figures,
        tables=shown,
        command=storage.read_json(out / "command.json")["command"],
    )
    page = html.page(
        f"Study: {document['kind']}",
        body,
        lead=" ".join(found[:2]),
        subtitle=f"{name}: {len(document['arms'])} arms with {document['seeds']} seeds each, compared on test.",
        phantom=phantom,
        sections=(("plot", "Intervals"), *((table.id, table.title) for table in shown)),
        style=templates.get_template("study.css.j2").render(),
    )
    storage.write_text(out / "study.html", page)
