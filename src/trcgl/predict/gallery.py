"""The gallery of an evaluated split: true positives, misses and false alarms of every finding, with their maps.

It reads the predictions that `trcgl evaluate` wrote and scores nothing, so that test is opened once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from markupsafe import Markup

from trcgl.core import html, storage
from trcgl.core.errors import DataError
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.progress import track
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset
from trcgl.evaluate.figures import in_order
from trcgl.evaluate.predictions import Predictions, read_predictions
from trcgl.imaging.radiograph import at_most
from trcgl.model.folder import LoadedModel
from trcgl.model.maps import Kind, best_kind, check_kind, maps, to_square
from trcgl.model.run_folder import Run
from trcgl.model.scoring import check_fit
from trcgl.predict.map_page import KIND_NAMES, Panel, Section, counted, link, probability, write_page
from trcgl.predict.overlay import HEAT_SIDE, PAGE_SIDE, heat_uri

SCHEMA = "trcgl.gallery/1"
BATCH = 32
Outcome = Literal["true positive", "miss", "false alarm"]
TITLES: dict[Outcome, str] = {
    "true positive": "Found: highest scores",
    "miss": "Missed: lowest scores",
    "false alarm": "False alarms: highest scores among labels of absence",
}


@dataclass(frozen=True)
class Example:
    """The calibrated score of one finding in one image."""

    finding: str
    outcome: Outcome
    image_id: str
    score: float


def gallery(
    run: Run,
    dataset: Dataset,
    out: Path,
    *,
    split: str = "test",
    kind: Kind | None = None,
    findings: Sequence[str] = (),
    each: int = 4,
) -> dict[str, Any]:
    """Write `gallery.html` and `gallery.json`.

    Args:
        run: a run with an evaluation of the split.
        dataset: the evaluated dataset.
        out: output folder; new, or of the same command.
        split: `test` or `val`.
        kind: kind of the maps; None selects `best_kind`.
        findings: findings to show; if empty, all that count in the means.
        each: examples per finding and outcome.

    Returns:
        The document of schema `trcgl.gallery/1`, as written.

    Raises:
        DataError: the split was not evaluated, a finding is unknown, or the dataset holds labels only.
    """
    if each < 1:
        raise DataError(f"--top {each}: give at least one example.")
    model = run.model
    dataset.require_images()
    check_fit(model, dataset)
    evaluation, predictions = _evaluated(run, dataset, split)
    space = predictions.space
    for finding in findings:
        space.index(finding)
    kind = kind or best_kind(model)
    check_kind(model, kind)
    weights = model.info["weights_sha256"]
    settings = {"weights_sha256": weights, "dataset": dataset.name, "split": split, "kind": kind}
    storage.claim_settings(out, "settings.json", settings | {"findings": list(findings), "each": each})

    thresholds = {finding: evaluation["findings"][finding]["threshold"] for finding in space.findings}
    names = [name for name in in_order(space, evaluation["findings"]) if name in (findings or space.scored)]
    names.sort(key=lambda name: name == space.normal)  # findings before the normal label
    outcomes = {name: _outcomes(predictions, name, thresholds[name]) for name in names}
    chosen = [example for name in names for example in _examples(predictions, name, outcomes[name], each)]
    heats, pictures = _maps(model, dataset, chosen, kind)
    boxes = _boxes(dataset)

    def panel(example: Example) -> Panel:
        key = example.image_id, example.finding
        return Panel(*key, heats[key], example.score, lines=[example.image_id], boxes=boxes.get(key, ()))

    sections, counts = [], {}
    for name in names:
        found, missed, false_alarms = (int(rows.sum()) for rows in outcomes[name].values())
        counts[name] = found + missed, found, missed, false_alarms
        result = f"{found} found, {missed} missed, {false_alarms} false alarms"
        panels = {
            title: [panel(example) for example in chosen if (example.finding, example.outcome) == (name, outcome)]
            for outcome, title in TITLES.items()
        }
        result += f" at the threshold {probability(thresholds[name])}"
        sections.append(Section(f"f{space.index(name)}", name, result, panels, group=space.groups.get(name)))
    rows = [(link(section), *counts[section.title]) for section in sections]
    write_page(
        out / "gallery.html",
        f"Gallery of {run.folder.resolve().name} on {dataset.name}, {split}",
        _lead(evaluation, [counts[name] for name in names if name != space.normal]),
        sections,
        pictures,
        subtitle=f"{evaluation['patients']:,} patients; {KIND_NAMES[kind]}.",
        table=html.table(["finding", "present", "found", "missed", "false alarms"], rows),
        kind=kind,
        phantom=dataset.info["source"] == "phantom",
        note="Labels can be wrong, too.",
    )
    document = {
        "schema": SCHEMA,
        "split": split,
        "kind": kind,
        "weights_sha256": weights,
        "examples": [vars(example) for example in chosen],
        "page": "gallery.html",
        "research_use": RESEARCH_USE,
    }
    storage.write_json(out / "gallery.json", document)
    return document


def _outcomes(predictions: Predictions, finding: str, threshold: float) -> dict[Outcome, np.ndarray]:
    """Outcome to the rows that have it, as booleans (N,), in the order of `TITLES`."""
    column = predictions.space.index(finding)
    called, truth = predictions.score[:, column] >= threshold, predictions.truth[:, column]
    return {
        "true positive": called & (truth == 1),
        "miss": ~called & (truth == 1),
        "false alarm": called & (truth == 0),
    }


def _examples(predictions: Predictions, finding: str, outcomes: dict[Outcome, np.ndarray], each: int) -> list[Example]:
    """True positives with the highest scores, misses with the lowest, false alarms with the highest."""
    score = predictions.score[:, predictions.space.index(finding)]
    chosen = []
    for outcome, selected in outcomes.items():
        order = score if outcome == "miss" else -score
        for row in np.flatnonzero(selected)[np.argsort(order[selected], kind="stable")[:each]].tolist():
            chosen.append(Example(finding, outcome, predictions.image_id[row], float(score[row])))
    return chosen


def _lead(evaluation: dict[str, Any], counts: Sequence[tuple[int, int, int, int]]) -> str:
    present, found, missed, false_alarms = (sum(column) for column in zip(*counts, strict=True)) if counts else [0] * 4
    return (
        f"In {counted(evaluation['images'], 'radiograph')} the model found {found:,} of {present:,} labeled findings "
        f"and missed {missed:,}. It also called {false_alarms:,} findings that the labels say are absent."
    )


def _evaluated(run: Run, dataset: Dataset, split: str) -> tuple[dict[str, Any], Predictions]:
    """The evaluation and the predictions of a split, of the run's own dataset or of another one."""
    own = storage.sha256_file(dataset.folder / "dataset.json") == run.info["dataset_digest"]
    name = split if own else f"{dataset.name}-{split}"
    path = run.folder / "evaluation" / f"{name}.json"
    if not path.exists():
        raise DataError(f"{path}: no such file. The gallery shows an evaluated split: run `trcgl evaluate` first.")
    evaluation = storage.read_json(path)
    space = LabelSpace.from_dict(evaluation["label_space"])
    return evaluation, read_predictions(run.folder / "predictions" / f"{name}.parquet", space)


def _maps(
    model: LoadedModel, dataset: Dataset, chosen: Sequence[Example], kind: Kind
) -> tuple[dict[tuple[str, str], Markup], dict[str, np.ndarray]]:
    """The map of every example by image_id and finding, as a data URI, and the picture of every image."""
    store, images = dataset.require_images(), list(dict.fromkeys(example.image_id for example in chosen))
    rows = dict(dataset.manifest.filter(pl.col("image_id").is_in(images)).select("image_id", "row").iter_rows())
    heats: dict[tuple[str, str], Markup] = {}
    pictures: dict[str, np.ndarray] = {}
    for start in track(range(0, len(images), BATCH), what="gallery"):
        part = images[start : start + BATCH]
        stored = np.array(store[[rows[image] for image in part]])
        grids = dict(zip(part, maps(model, model.resized(stored), kind), strict=True))
        pictures |= {image: at_most(pixels, PAGE_SIDE) for image, pixels in zip(part, stored, strict=True)}
        for example in chosen:
            if example.image_id in grids:
                grid = grids[example.image_id][model.space.index(example.finding)]
                heats[example.image_id, example.finding] = Markup(heat_uri(to_square(grid, HEAT_SIDE)))
    return heats, pictures


def _boxes(dataset: Dataset) -> dict[tuple[str, str], list[tuple[float, ...]]]:
    """Boxes by image_id and finding, in percent of the picture."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    if dataset.boxes is not None:
        for image, finding, *edges in dataset.boxes.select("image_id", "finding", "x", "y", "w", "h").iter_rows():
            found.setdefault((image, finding), []).append(tuple(100 * edge for edge in edges))
    return found
