"""The gallery of a run: true positives, misses and false alarms of every finding, with where the model looked.

    trcgl explain runs/nih nih --split test --out gallery

It reads what `trcgl evaluate` wrote and scores nothing: test stays opened once.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from jaxtyping import Float
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
from trcgl.model.maps import Kind, best_kind, check_kind, maps
from trcgl.model.upsample import to_square
from trcgl.predict.explain import check_fit
from trcgl.predict.explained_page import KIND_WORDS, STYLE, backgrounds, template
from trcgl.predict.overlay import HEAT_SIDE, PAGE_SIDE, heat_uri

SCHEMA = "trcgl.gallery/1"
BATCH = 32
Outcome = Literal["true positive", "miss", "false alarm"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
TITLES: dict[Outcome, str] = {
    "true positive": "True positives: called and present, the surest first",
    "miss": "Misses: present, but not called, the worst first",
    "false alarm": "False alarms: called, but labeled absent, the worst first",
}


@dataclass(frozen=True)
class Example:
    """One image and one finding.

    Args:
        finding: of the model.
        outcome: what became of it.
        image_id: of the image.
        score: calibrated probability.
    """

    finding: str
    outcome: Outcome
    image_id: str
    score: float


def gallery(
    run_folder: Path,
    model: LoadedModel,
    dataset: Dataset,
    out: Path,
    *,
    split: str = "test",
    kind: Kind | None = None,
    findings: tuple[str, ...] = (),
    each: int = 4,
) -> dict[str, Any]:
    """Write `gallery.html` and `gallery.json`.

    Args:
        run_folder: a run whose split was judged by `trcgl evaluate`.
        model: of that run.
        dataset: that it was judged on.
        out: folder; new, or of the same command.
        split: `test` or `val`.
        kind: of maps; None takes `best_kind`.
        findings: which to show; none shows all that count in the means.
        each: examples of each finding and outcome.

    Returns:
        The document of schema `trcgl.gallery/1`, as written.

    Raises:
        DataError: the split was not judged, a finding is unknown, or the dataset holds labels only.
        RecipeError: the folder holds something else, or the head has no such maps.
    """
    if each < 1:
        raise DataError(f"--top {each}: at least one example has to be shown.")
    dataset.require_images()
    check_fit(model, dataset)
    evaluation, predictions = _judged(Path(run_folder), dataset, split)
    space = predictions.space
    for one in findings:
        space.index(one)
    kind = kind or best_kind(model)
    check_kind(model, kind)
    settings = {"weights_sha256": model.info["weights_sha256"], "dataset": dataset.name, "split": split, "kind": kind}
    storage.claim(out, "settings.json", json.dumps(settings | {"findings": findings, "each": each}, indent=2) + "\n")
    thresholds = {one: evaluation["findings"][one]["threshold"] for one in space.findings}
    names = [one for one in in_order(space, evaluation["findings"]) if one in (findings or space.scored)]
    chosen = [one for name in names for one in examples(predictions, name, thresholds[name], each)]
    heats, pictures = _looked(model, dataset, chosen, kind)
    sections = [_section(name, space, evaluation, chosen, predictions) for name in names]
    page = html.page(
        f"Gallery of {Path(run_folder).resolve().name} on {dataset.name}, {split}",
        template("gallery.html.j2").render(
            sections=sections,
            outcomes=TITLES,
            heats=heats,
            boxes=_boxes(dataset),
            kind=KIND_WORDS[kind],
            places=_places(chosen),
        ),
        subtitle=f"{evaluation['images']:,} images of {evaluation['patients']:,} patients; {KIND_WORDS[kind]}.",
        phantom=dataset.info["source"] == "phantom",
        sections=[(one["id"], one["finding"]) for one in sections],
        style=STYLE + backgrounds([(f"i{place}", pictures[image]) for image, place in _places(chosen).items()]),
    )
    storage.write_text(out / "gallery.html", page)
    document = {
        "schema": SCHEMA,
        "split": split,
        "kind": kind,
        "weights_sha256": model.info["weights_sha256"],
        "examples": [vars(one) for one in chosen],
        "page": "gallery.html",
        "research_use": RESEARCH_USE,
    }
    storage.write_json(out / "gallery.json", document)
    return document


def examples(predictions: Predictions, finding: str, threshold: float, each: int) -> list[Example]:
    """True positives with the highest scores, misses with the lowest, false alarms with the highest.

    Args:
        predictions: of the split.
        finding: which.
        threshold: from which on a score calls it.
        each: of each outcome, at most.
    """
    column = predictions.space.index(finding)
    score, truth = predictions.score[:, column], predictions.truth[:, column]
    called = score >= threshold
    rows: dict[Outcome, tuple[np.ndarray, np.ndarray]] = {
        "true positive": (called & (truth == 1), -score),
        "miss": (~called & (truth == 1), score),
        "false alarm": (called & (truth == 0), -score),
    }
    chosen = []
    for outcome, (which, order) in rows.items():
        for row in np.flatnonzero(which)[np.argsort(order[which], kind="stable")[:each]]:
            chosen.append(Example(finding, outcome, predictions.image_id[int(row)], float(score[row])))
    return chosen


def _judged(run_folder: Path, dataset: Dataset, split: str) -> tuple[dict[str, Any], Predictions]:
    """The evaluation and the predictions of a split, of the run's own dataset or of another one."""
    own = storage.read_json(run_folder / "run.json").get("dataset_digest")
    name = split if storage.sha256_file(dataset.folder / "dataset.json") == own else f"{dataset.name}-{split}"
    path = run_folder / "evaluation" / f"{name}.json"
    if not path.exists():
        raise DataError(f"{path}: no such file. The gallery shows what was judged: run `trcgl evaluate` first.")
    evaluation = storage.read_json(path)
    space = LabelSpace.from_dict(evaluation["label_space"])
    return evaluation, read_predictions(run_folder / "predictions" / f"{name}.parquet", space)


def _looked(
    model: LoadedModel, dataset: Dataset, chosen: list[Example], kind: Kind
) -> tuple[dict[tuple[str, str], Markup], dict[str, np.ndarray]]:
    """The layer of every example by image and finding, and the picture of every image."""
    shown: dict[str, list[Example]] = {}
    for one in chosen:
        shown.setdefault(one.image_id, []).append(one)
    store, images = dataset.require_images(), list(shown)
    held = dataset.manifest.filter(pl.col("image_id").is_in(images))
    rows = dict(held.select("image_id", "row").iter_rows())
    heats: dict[tuple[str, str], Markup] = {}
    pictures: dict[str, np.ndarray] = {}
    for start in track(range(0, len(images), BATCH), what="gallery"):
        part = images[start : start + BATCH]
        stored = np.array(store[[rows[one] for one in part]])
        squares = model.resized(stored)
        grids: Float[np.ndarray, "images findings rows columns"] = maps(model, squares, kind)
        for image, pixels, grid in zip(part, stored, grids, strict=True):
            pictures[image] = at_most(pixels, PAGE_SIDE)
            for one in shown[image]:
                values = to_square(grid[model.space.index(one.finding)], HEAT_SIDE)
                heats[image, one.finding] = Markup(heat_uri(values))
    return heats, pictures


def _places(chosen: list[Example]) -> dict[str, int]:
    """Image to its number on the page."""
    return {image: place for place, image in enumerate(dict.fromkeys(one.image_id for one in chosen), 1)}


def _boxes(dataset: Dataset) -> dict[tuple[str, str], list[tuple[float, ...]]]:
    """Boxes by image and finding, in percent of the picture."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    if dataset.boxes is not None:
        for image, finding, *edges in dataset.boxes.select("image_id", "finding", "x", "y", "w", "h").iter_rows():
            found.setdefault((image, finding), []).append(tuple(100 * one for one in edges))
    return found


def _section(
    finding: str, space: LabelSpace, evaluation: dict[str, Any], chosen: list[Example], predictions: Predictions
) -> dict[str, Any]:
    column, told = space.index(finding), evaluation["findings"][finding]
    called = predictions.score[:, column] >= told["threshold"]
    truth = predictions.truth[:, column]
    counts = (called & (truth == 1)).sum(), (~called & (truth == 1)).sum(), (called & (truth == 0)).sum()
    return {
        "id": f"f{column}",
        "finding": finding,
        "group": space.groups.get(finding),
        "threshold": told["threshold"],
        "counts": dict(zip(OUTCOMES, map(int, counts), strict=True)),
        "examples": {one: [e for e in chosen if e.finding == finding and e.outcome == one] for one in OUTCOMES},
    }
