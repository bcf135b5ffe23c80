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
_STYLE = """
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .7rem; }
.shots figure { margin: 0; padding: .5rem; } .shots figcaption { font-size: .86rem; margin-top: .4rem; }
.shot { position: relative; width: 100%; background-size: 100% 100%; border-radius: 5px; overflow: hidden; }
.shot img { position: absolute; inset: 0; width: 100%; height: 100%; }
.shot .box { position: absolute; border: 2px dashed #ffd84d; border-radius: 2px; }
body:has(#hide:checked) .shot img, body:has(#hide:checked) .shot .box { visibility: hidden; }
.switch { display: inline-flex; gap: .5rem; align-items: center; margin: .6rem 0; }
.switch input { width: 1.1rem; height: 1.1rem; }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .45rem; }
.swatch.head { background: var(--head); } .swatch.medium { background: var(--medium); }
.swatch.tail { background: var(--tail); } .swatch.plain { background: var(--plain); }
main details { border-top: 1px solid var(--line); margin: 0; padding: .6rem 0; }
main > .scroll { margin-top: 1rem; } tbody th { min-width: 7rem; font-weight: 400; }
summary, figcaption, tbody th { overflow-wrap: anywhere; }
@media (max-width: 40rem) { th, td { padding: .32rem .4rem; } }
summary .result { font-weight: 400; color: var(--muted); margin-left: .6rem; }
"""


@dataclass(frozen=True)
class Panel:
    """One radiograph with the map of one finding.

    Args:
        image_id: image_id of the radiograph.
        finding: the finding whose map is shown.
        heat: data URI of the map, from `overlay.heat_uri`.
        score: probability of the finding.
        title: heading of the caption; empty for none.
        group: group of the finding, for its color.
        lines: further lines of the caption.
        link: file that opens on a click, relative to the page; empty for none.
        boxes: x, y, width and height of readers' boxes, in percent of the picture.
    """

    image_id: str
    finding: str
    heat: Markup
    score: float
    title: str = ""
    group: str | None = None
    lines: Sequence[str] = ()
    link: str = ""
    boxes: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Section:
    """A folded part of the page.

    Args:
        id: target of links.
        title: name of the finding or of the radiograph.
        result: what was found, beside the title.
        rows: heading of each row to its panels; an empty heading is not shown.
        group: group of the finding, for its color.
        link: file with more details, relative to the page; empty for none.
    """

    id: str
    title: str
    result: str
    rows: Mapping[str, Sequence[Panel]]
    group: str | None = None
    link: str = ""


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
        calibrated: whether the scores are calibrated and have thresholds.
        left_out: number of radiographs that are not on the page.
        unreadable: image_id and reason of files that could not be read.
    """
    places = {image_id: place for place, image_id in enumerate(pictures, 1)}
    environment = html.environment("trcgl.predict")
    environment.filters["probability"] = probability
    body = environment.get_template("map_page.html.j2").render(
        sections=sections,
        places=places,
        table=table,
        kind=KIND_NAMES[kind],
        note=note,
        boxes=any(panel.boxes for section in sections for panels in section.rows.values() for panel in panels),
        calibrated=calibrated,
        left_out=left_out,
        unreadable=unreadable,
    )
    backgrounds = [
        f".i{places[image_id]} {{ background-image: url({jpeg_uri(picture)}); "
        f"aspect-ratio: {picture.shape[1]} / {picture.shape[0]}; }}"
        for image_id, picture in pictures.items()
    ]
    style = _STYLE + "\n".join(backgrounds)
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
