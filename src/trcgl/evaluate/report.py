"""The report of a run: one self-contained page with every number of the evaluation and the pictures behind it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from markupsafe import Markup

from trcgl.core import html, storage
from trcgl.core.errors import DataError
from trcgl.dataset.cooccurrence import Cooccurrence, counts
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset
from trcgl.evaluate.localization import METRICS
from trcgl.evaluate.predictions import Predictions, read_predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADLINE = (
    ("mAP", "mAP", "average precision"),
    ("mAUC", "mAUC", "area under the ROC curve; 0.5 is chance"),
    ("mF1", "mF1", "at thresholds fitted on val"),
    ("mECE", "mECE", "calibration error; 0 is perfect"),
)
SECTIONS = (
    ("headline", "Headline"),
    ("findings", "Every finding"),
    ("curves", "Precision and recall"),
    ("calibration", "Calibration"),
    ("mistakes", "Mistakes"),
    ("localization", "Where it looks"),
    ("subsets", "Subsets"),
    ("tail", "The long tail"),
    ("training", "Training"),
    ("numbers", "All numbers"),
    ("again", "Commands"),
)
STYLE = """
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .9rem; margin: .9rem 0; }
.tile { margin: 0; } .tile .name { font-weight: 600; } .tile .muted { font-size: .88rem; }
.tile .big { font-size: 2.1rem; line-height: 1.25; font-weight: 650; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.ci, .why { color: var(--muted); } .tile .ci { color: var(--ink); font-variant-numeric: tabular-nums; }
td .ci { margin-left: .25rem; } .together { white-space: nowrap; } td .why { white-space: normal; }
#all, .wide { font-size: .84rem; } :is(#all, .wide) :is(th, td) { padding: .32rem .55rem; }
#all td:nth-child(2) { white-space: nowrap; }
tbody th { white-space: nowrap; }
caption { text-align: left; color: var(--muted); padding: .2rem 0 .4rem; }
tbody th { font-weight: 500; } .few { color: var(--tail); font-weight: 700; }
.above { color: var(--medium); } .below { color: var(--tail); }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .45rem; }
.swatch.head { background: var(--head); } .swatch.medium { background: var(--medium); }
.swatch.tail { background: var(--tail); } .swatch.plain { background: var(--plain); }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); gap: .9rem; }
.pictures figure { margin: 0; padding: .6rem; } .pictures img { width: 100%; border-radius: 5px; background: #000; }
.pictures figcaption { font-size: .82rem; margin-top: .5rem; overflow-wrap: anywhere; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-decoration: underline dotted; text-underline-offset: .2em; }
th[aria-sort=descending] button::after { content: " ▾"; } th[aria-sort=ascending] button::after { content: " ▴"; }
"""


def write_report(folder: Path, dataset: Dataset | None = None, split: str = "test") -> Path:
    """Write `report.html` of a run, and its figures as `figures/<split>_<name>.svg`.

    Args:
        folder: a run whose `split` was judged.
        dataset: that was judged, for the pictures and the label distribution in training; None leaves out the pictures.
        split: name of the evaluation: `test`, `val`, or `<dataset>-<split>` of external validation. A report on
            another one than test is `report-<split>.html`, so that it does not replace that on test.

    Returns:
        The page.

    Raises:
        DataError: the evaluation, the predictions or the model are missing or damaged.
    """
    folder = Path(folder)
    evaluation = storage.read_json(folder / "evaluation" / f"{split}.json")
    try:
        space = LabelSpace.from_dict(evaluation["label_space"])
    except KeyError:
        raise DataError(f"{folder}/evaluation/{split}.json is no evaluation. Run `trcgl evaluate` again.") from None
    predictions = read_predictions(folder / "predictions" / f"{split}.parquet", space)
    log = _log(folder / "metrics.jsonl")
    own = dataset is not None and split == evaluation["split"]
    seen = Cooccurrence.from_dict(dataset.info["cooccurrence"]) if dataset and own else _seen(predictions)
    figures = _figures(folder / "figures", split, evaluation, predictions, seen, log)
    phantom = bool(dataset and dataset.info["source"] == "phantom")
    mistakes, pictures = _mistakes(predictions, evaluation, dataset)
    content = {
        "evaluation": evaluation,
        "names": _ordered(space, evaluation),
        "headline": HEADLINE,
        "figures": figures,
        "calibration": _calibration(folder),
        "mistakes": mistakes,
        "pictures": pictures,
        "located": evaluation.get("localization"),
        "located_metrics": METRICS,
        "counted_on": "in training" if own else f"in {evaluation['split']}",
        "gates": _gates(log),
        "commands": _commands(folder, evaluation["split"], None if own else dataset),
        "notes": [*dataset.info.get("notes", ()), dataset.info.get("license", "")] if dataset else [],
    }
    body = _template().render(content)
    name = dataset.name if dataset else space.name
    page = html.page(
        f"{folder.resolve().name} on {name}, {split}",
        body,
        subtitle=f"{evaluation['images']:,} images of {evaluation['patients']:,} patients; "
        f"{len(space.scored)} findings in the means.",
        phantom=phantom,
        sections=[(key, title) for key, title in SECTIONS if f'id="{key}"' in body],
        style=STYLE,
    )
    path = folder / ("report.html" if split == "test" else f"report-{split}.html")
    storage.write_text(path, page)
    return path


def _figures(
    folder: Path,
    split: str,
    evaluation: dict[str, Any],
    predictions: Predictions,
    seen: Cooccurrence,
    log: list[dict[str, Any]],
) -> dict[str, Any]:
    from trcgl.dataset.figures import cooccurrence_matrix, label_distribution
    from trcgl.evaluate import figures

    space = predictions.space
    with html.house_style():
        made: dict[str, tuple[Figure | None, str]] = {
            "findings": (figures.intervals(evaluation, space), "Average precision and AUROC of every finding"),
            "precision_recall": (figures.precision_recall(predictions, evaluation), "Precision-recall curves"),
            "reliability": (figures.reliability(predictions, evaluation), "Reliability curves"),
            "label_distribution": (label_distribution(space, seen, ""), "Images per finding"),
            "cooccurrence": (cooccurrence_matrix(space, seen, ""), "Which finding comes with which"),
            "training": (figures.training_curve(log), "Training loss and mAP on val"),
        }
    drawn: dict[str, Any] = {}
    for name, (figure, words) in made.items():
        drawn[name] = None
        if figure:
            document = html.svg_text(figure)
            storage.write_text(folder / f"{split}_{name}.svg", document)
            drawn[name] = {"svg": Markup(html.inline_svg(document, words)), "words": words}
    return drawn


def _seen(predictions: Predictions) -> Cooccurrence:
    return counts(pl.DataFrame(predictions.truth, schema=list(predictions.space.findings)), predictions.space)


def _mistakes(
    predictions: Predictions, evaluation: dict[str, Any], dataset: Dataset | None
) -> tuple[list[Any], dict[str, str]]:
    from trcgl.evaluate.mistakes import most_confident, pictures

    if dataset is None:
        return [], {}
    chosen = most_confident(predictions, evaluation)
    shown = pictures(chosen, dataset)
    return [one for one in chosen if one.image_id in shown], shown


def _log(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _gates(log: list[dict[str, Any]]) -> dict[str, float]:
    """The last logged value of every gate that training could have moved."""
    logged = [{key: value for key, value in line.items() if key.startswith("gate/")} for line in log]
    values = [line for line in logged if line]
    return {key.removeprefix("gate/"): value for key, value in values[-1].items()} if values else {}


def _calibration(folder: Path) -> str:
    words = (
        "Each finding in 15 bins of equal mass, each on its own scale; on the dotted line, scores mean what they say. "
        "ECE: mean distance from that line."
    )
    temperature = storage.read_json(folder / "model" / "model.json").get("temperature")
    return words + (f" Temperature fitted on val: {temperature:.3f}." if temperature else "")


def _commands(folder: Path, split: str, other: Dataset | None) -> list[str]:
    told = storage.read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    words = ["trcgl evaluate", folder.resolve().name]
    words += [f"--dataset {other.folder.resolve().name}"] if other else []
    words += [f"--split {split}"] if split != "test" else []
    return [*([told["command"]] if told.get("command") else []), " ".join(words)]


def _ordered(space: LabelSpace, evaluation: dict[str, Any]) -> list[str]:
    from trcgl.evaluate.figures import in_order

    return in_order(space, evaluation["findings"])


def _template() -> Any:
    environment = html.environment("trcgl.evaluate")
    environment.filters["number"] = lambda value, digits: f"{value:.{digits}f}"
    environment.filters["significant"] = lambda value: np.format_float_positional(value, 3, fractional=False, trim="k")
    environment.filters["probability"] = lambda value: "below 0.001" if value < 0.001 else f"{value:.3f}"
    return environment.get_template("report.html.j2")
