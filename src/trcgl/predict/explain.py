"""`trcgl explain` of files and of single images of a dataset: overlays, figures and a page.

Overlays have the full resolution of the file. A map shows where a score came from, not that the score is right.
"""

import io
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, UInt8
from markupsafe import Markup
from PIL import Image

from trcgl.core import html, storage
from trcgl.core.errors import DataError, UnreadableImage
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.progress import track
from trcgl.dataset.store import Dataset
from trcgl.imaging.ahead_of_network import read_ahead
from trcgl.imaging.file_process import ReadFile
from trcgl.imaging.radiograph import Placement, at_most
from trcgl.model.folder import LoadedModel, best_device, load_model
from trcgl.model.maps import Kind, best_kind, check_kind, maps, to_radiograph
from trcgl.model.scoring import check_fit
from trcgl.predict.explanation import NO_EVIDENCE, Explanation, plot
from trcgl.predict.map_page import KIND_NAMES, Panel, Section, counted, link, probability, write_page
from trcgl.predict.overlay import PAGE_SIDE, heat, heat_uri, jpeg, over, small_map

SCHEMA = "trcgl.explanation/1"
BATCH = 8
_NAMED = 4
"""Most positive findings that the table names for each radiograph."""
ON_PAGE = 60
"""Most radiographs on the page, which keeps it small; overlays and figures are written for all."""


@dataclass(frozen=True)
class Case:
    """One radiograph to explain: at full resolution, and as the network's input."""

    image_id: str
    pixels: UInt8[np.ndarray, "height width"]
    square: UInt8[np.ndarray, "side side"]
    placement: Placement
    """From `pixels` to `square`."""
    truth: Float[np.ndarray, " findings"] | None
    """1 present, 0 absent, NaN unknown, in the model's order; None for files."""


def open_model(folder: Path) -> LoadedModel:
    """Load the model of a run folder or model folder, on the GPU where there is one."""
    return load_model(folder, device=best_device())


def of_files(
    model: LoadedModel, files: dict[str, Path], accept: Collection[str] = ()
) -> Iterator[Case | tuple[str, str]]:
    """Yield each file as a case, or its image_id and the reason why it is not explained.

    `accept`: reasons of `core.errors.REASONS` for which files are not refused, beside those of the model.
    """
    scale, accept = model.image_size / model.shape[0], model.accept.union(accept)
    with closing(read_ahead(files.items(), [model.shape], ahead=BATCH, whole=True, accept=accept)) as reading:
        for name, read in reading:
            if not isinstance(read, ReadFile):
                yield name, str(read)
                continue
            if read.preview is None:
                raise UnreadableImage(f"{name}: the decoder returned no picture. Run the same command again.")
            pixels = np.asarray(Image.open(io.BytesIO(read.preview)))
            placement = Placement(*(scale * number for number in read.placements[0]))
            yield Case(name, pixels, model.resized(read.pictures[0][None])[0], placement, None)


def of_rows(model: LoadedModel, dataset: Dataset, images: Sequence[str]) -> Iterator[Case]:
    """Yield images of a dataset as cases, with their labels.

    Raises:
        DataError: the dataset has no such image, or its images were made square in another way than the model's.
    """
    store = dataset.require_images()
    check_fit(model, dataset)
    manifest = dataset.manifest.filter(pl.col("image_id").is_in(list(images)))
    rows = {row["image_id"]: row for row in manifest.iter_rows(named=True)}
    if missing := sorted(set(images) - set(rows)):
        raise DataError(f"{dataset.folder} has no image {missing[0]!r}. Take the names from its manifest.parquet.")

    def case(name: str) -> Case:
        pixels = np.array(store[rows[name]["row"]])
        scale = model.image_size / len(pixels)
        labels = {finding: rows[name][finding] for finding in dataset.space.findings}
        truth = np.array([labels.get(finding) for finding in model.space.findings], float)  # None becomes NaN
        return Case(name, pixels, model.resized(pixels[None])[0], Placement(scale, scale, 0.0, 0.0), truth)

    return map(case, dict.fromkeys(images))


def explain(
    model: LoadedModel,
    cases: Iterator[Case | tuple[str, str]],
    inputs: Sequence[str],
    out: Path,
    *,
    kind: Kind | None = None,
    findings: Sequence[str] = (),
    top: int = 4,
    phantom: bool = False,
) -> dict[str, Any]:
    """Write overlays, one figure per radiograph, a page and `explanation.json` into a folder.

    Args:
        model: the model to explain.
        cases: from `of_files` or `of_rows`.
        inputs: identities of the radiographs, so that a folder never holds two explanations.
        out: output folder; new, or of the same command on the same radiographs.
        kind: kind of the maps; None selects `best_kind`.
        findings: findings to map; if empty, positive findings come first, then the highest scores, and present labels.
        top: number of findings to map where `findings` is empty.
        phantom: whether the images are rendered phantoms.

    Returns:
        The document of schema `trcgl.explanation/1`, as written.

    Raises:
        DataError: no file can be read.
    """
    wanted = [model.space.index(finding) for finding in findings]
    if top < 1:
        raise DataError(f"--top {top}: give at least one finding.")
    kind = kind or best_kind(model)
    check_kind(model, kind)
    settings = {
        "weights_sha256": model.info["weights_sha256"],
        "kind": kind,
        "findings": list(findings),
        "top": top,
        "radiographs": storage.digest(list(inputs)),
    }
    unreadable: list[dict[str, str]] = []
    explanations: list[Explanation] = []
    tracked = track(cases, total=len(inputs), what="explaining radiographs")
    while part := list(islice(tracked, BATCH)):
        unreadable += [{"image_id": case[0], "reason": case[1]} for case in part if isinstance(case, tuple)]
        readable = [case for case in part if isinstance(case, Case)]
        if not readable:
            continue
        if not explanations:  # an empty folder would refuse the corrected command
            storage.claim_settings(out, "settings.json", settings)
        squares = np.stack([case.square for case in readable])
        for case, scores, grids in zip(readable, model.score(squares), maps(model, squares, kind), strict=True):
            columns = wanted or _most_telling(model, scores, case.truth, top)
            explanations.append(_write(model, case, scores, grids, columns, out, len(explanations) + 1))
    if not explanations:
        reason = unreadable[0]["reason"]
        raise DataError(f"not one of {len(inputs)} files can be read, the first because: {reason}")
    shown = sorted(explanations[:ON_PAGE], key=lambda explanation: not _positive(explanation, model))
    sections = [_section(explanation, model, f"s{place}") for place, explanation in enumerate(shown, 1)]
    header = ["radiograph", "positive findings (score)" if model.thresholds else "highest score"]
    table = html.table(header, [(link(section), section.result) for section in sections])
    write_page(
        out / "explanation.html",
        "Where the model looked",
        _lead(explanations, model),
        sections,
        {explanation.image_id: explanation.picture for explanation in shown},
        subtitle=f"{counted(len(explanations), 'radiograph')}, {KIND_NAMES[kind]}.",
        table=table if len(sections) > 1 else Markup(),
        kind=kind,
        phantom=phantom,
        note="Click a picture for the map at full resolution.",
        calibrated=model.thresholds is not None,
        left_out=len(explanations) - len(shown),
        unreadable=unreadable,
    )
    document = {
        "schema": SCHEMA,
        "kind": kind,
        "weights_sha256": settings["weights_sha256"],
        "calibrated": model.thresholds is not None,
        "findings": list(model.space.findings),
        "images": [explanation.to_dict(model.space.findings) for explanation in explanations],
        "unreadable": unreadable,
        "page": "explanation.html",
        "research_use": RESEARCH_USE,
    }
    storage.write_json(out / "explanation.json", document)
    return document


def safe_name(name: str) -> str:
    """A name as one part of a path on any system, shortened if long, without the file extension of an image."""
    name = re.sub(r"\.(png|jpe?g|dcm)$", "", name, flags=re.IGNORECASE)
    name = re.sub(r"[^\w.-]+", "_", name)
    # A part has 255 bytes at most, and the endings of temporary files come on top.
    return name.encode()[:200].decode(errors="ignore").strip(".") or "_"


def _most_telling(
    model: LoadedModel, scores: Float[np.ndarray, " findings"], truth: Float[np.ndarray, " findings"] | None, top: int
) -> list[int]:
    """Columns of the positive findings, then of the highest scores; and of every finding that is labeled present.

    The normal label comes last.
    """
    thresholds = np.array([(model.thresholds or {}).get(finding, np.inf) for finding in model.space.findings])
    order = np.lexsort((-scores, scores < thresholds))[:top].tolist()
    present = [] if truth is None else np.flatnonzero(truth == 1).tolist()
    columns = order + [column for column in present if column not in order]
    return sorted(columns, key=lambda column: model.space.findings[column] == model.space.normal)


def _write(
    model: LoadedModel,
    case: Case,
    scores: Float[np.ndarray, " findings"],
    grids: Float[np.ndarray, "findings rows columns"],
    columns: Sequence[int],
    out: Path,
    number: int,
) -> Explanation:
    """Write the overlays and the figure of one radiograph."""
    name = safe_name(f"{number:04d}-{case.image_id}")
    overlays, layers = {}, {}
    for column in columns:
        # One finding at a time: the map of a radiograph of ten million pixels has 40 MB.
        values = to_radiograph(grids[column], case.pixels.shape, case.placement, model.image_size)
        path = Path("overlays", name, f"{safe_name(model.space.findings[column])}.jpg")
        with storage.atomic(out / path) as aside:
            aside.write_bytes(jpeg(over(case.pixels, heat(values))))
        overlays[column] = path.as_posix()
        layers[column] = small_map(grids[column], case.pixels.shape, case.placement, model.image_size)
    picture = at_most(case.pixels, PAGE_SIDE)
    explanation = Explanation(case.image_id, picture, layers, scores, case.truth, overlays, f"figures/{name}.png")
    figure = plot(explanation, model.space, model.thresholds)
    with storage.atomic(out / explanation.figure) as aside:
        figure.savefig(aside, format="png", dpi=150)
    return explanation if number <= ON_PAGE else replace(explanation, layers={})


def _lead(explanations: Sequence[Explanation], model: LoadedModel) -> str:
    total = counted(len(explanations), "radiograph")
    if model.thresholds is None:
        return (
            f"The model scored {total}, but it has no thresholds yet and calls no finding present. Compare the scores "
            "with each other only."
        )
    positive = [_positive(explanation, model) for explanation in explanations]
    flagged = sum(bool(columns) for columns in positive)
    names = [model.space.findings[column] for columns in positive for column in columns]
    often = sorted(set(names), key=lambda name: (-names.count(name), name))[:3]
    found = f": most often {', '.join(f'{name} ({names.count(name)})' for name in often)}" if often else ""
    return (
        f"The model finds something in {flagged:,} of {total}{found}. "
        "The maps show which areas these calls rest on; a radiologist has to decide whether they are right."
    )


def _positive(explanation: Explanation, model: LoadedModel) -> list[int]:
    """Columns of the findings, without the normal label, that reach their thresholds; the highest scores first."""
    thresholds = model.thresholds or {}
    reached = [
        column
        for column, finding in enumerate(model.space.findings)
        if finding != model.space.normal and explanation.scores[column] >= thresholds.get(finding, np.inf)
    ]
    return sorted(reached, key=lambda column: -explanation.scores[column])


def _section(explanation: Explanation, model: LoadedModel, name: str) -> Section:
    findings, scores = model.space.findings, explanation.scores
    columns = _positive(explanation, model) if model.thresholds else [int(scores.argmax())]
    panels = []
    for column, layer in explanation.layers.items():
        finding, label = findings[column], explanation.label(column)
        lines = [f"threshold {probability(model.thresholds[finding])}"] if model.thresholds else []
        lines += [] if layer.any() else [NO_EVIDENCE]
        lines += [f"label: {label}"] if label else []
        panel = Panel(explanation.image_id, finding, Markup(heat_uri(layer)), float(scores[column]), lines=lines)
        group = model.space.groups.get(finding)
        panels.append(replace(panel, title=finding, group=group, link=explanation.overlays[column]))
    named = [f"{findings[column]} ({probability(float(scores[column]))})" for column in columns[:_NAMED]]
    result = ", ".join(named) + (f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else "")
    result = result or "no finding reaches its threshold"
    return Section(name, explanation.image_id, result, {"": panels}, link=explanation.figure)
