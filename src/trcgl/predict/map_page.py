"""The page of explanations and galleries: a summary, a table, then folded sections of radiographs with maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup

from trcgl.core import html, storage
from trcgl.model.maps import Kind
from trcgl.predict.overlay import jpeg_uri

KIND_NAMES: dict[Kind, str] = {"attention": "attention maps of the head", "grad_cam": "Grad-CAM"}


@dataclass(frozen=True)
class Panel:
    """One radiograph with the map of one finding; `title` and `lines` are its caption."""

    image_id: str
    finding: str
    heat: Markup
    """Data URI of the map, from `overlay.heat_uri`."""
    score: float
    title: str = ""
    group: str | None = None
    lines: Sequence[str] = ()
    link: str = ""
    """File that opens on a click, relative to the page."""
    boxes: Sequence[Sequence[float]] = ()
    """x, y, width and height of readers' boxes, in percent of the picture."""


@dataclass(frozen=True)
class Section:
    """A folded part of the page, of one finding or one radiograph."""

    id: str
    title: str
    result: str
    """What was found, beside the title."""
    rows: Mapping[str, Sequence[Panel]]
    """Heading of each row to its panels; an empty heading is not shown."""
    group: str | None = None
    link: str = ""
    """File with more details, relative to the page."""


def write_page(
    path: Path,
    title: str,
    lead: str,
    sections: Sequence[Section],
    pictures: Mapping[str, UInt8[np.ndarray, "_ _"]],
    *,
    subtitle: str,
    table: Markup,
    kind: Kind,
    phantom: bool,
    note: str,
    calibrated: bool = True,
    left_out: int = 0,
    unreadable: Sequence[Mapping[str, str]] = (),
) -> None:
    """Write one self-contained page.

    Args:
        path: HTML file to write.
        title: heading of the page.
        lead: what was found, in two sentences.
        sections: parts of the page; the first one is unfolded.
        pictures: image_id to the gray picture of each radiograph in `sections`; each is stored once on the page.
        subtitle: line below the heading.
        table: overview that links to the sections.
        kind: kind of the maps.
        phantom: whether the images are rendered phantoms.
        note: sentence about how to read the page.
        calibrated: whether the scores have thresholds.
        left_out: number of radiographs that are not on the page.
        unreadable: image_id and reason of files that could not be read.
    """
    environment = html.environment("trcgl.predict")
    environment.filters |= {"probability": probability, "jpeg_uri": jpeg_uri}
    body = environment.get_template("map_page.html.j2").render(
        sections=sections,
        places={image_id: place for place, image_id in enumerate(pictures, 1)},
        table=table,
        kind=KIND_NAMES[kind],
        note=note,
        boxes=any(panel.boxes for section in sections for panels in section.rows.values() for panel in panels),
        calibrated=calibrated,
        left_out=left_out,
        unreadable=unreadable,
    )
    style = environment.get_template("map_page.css.j2").render(pictures=list(pictures.values()))
    storage.write_text(path, html.page(title, body, lead=lead, subtitle=subtitle, phantom=phantom, style=style))


def link(section: Section) -> Markup:
    """The title of a section as a link to it, which unfolds the section."""
    return Markup('<a href="#{}">{}</a>').format(section.id, section.title)


def probability(value: float) -> str:
    """A probability with three decimals; small values are never rounded to 0."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def counted(number: int, noun: str) -> str:
    """A number with its noun in the singular or plural, for instance `1 radiograph`, `2 radiographs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
