"""The report of an evaluation: one self-contained page with every number and the figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from trcgl.core import html
from trcgl.dataset.cooccurrence import Cooccurrence, counts
from trcgl.dataset.labels import LabelSpace, phrase
from trcgl.dataset.store import Dataset
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics.localization import METRICS as LOCALIZATION_METRICS
from trcgl.metrics.registry import METRICS

GOOD = 0.8
"""AUROC from which on the separation of a finding is called good."""
SECTIONS = (
    ("headline", "Means"),
    ("findings", "Every finding"),
    ("curves", "Precision and recall"),
    ("calibration", "Calibration"),
    ("mistakes", "Mistakes"),
    ("localization", "Where it looks"),
    ("ensemble", "Ensemble"),
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
td .ci { display: block; } .together { white-space: nowrap; } td .why { white-space: normal; }
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


def report(
    folder: Path,
    evaluation: dict[str, Any],
    predictions: Predictions,
    dataset: Dataset | None = None,
    *,
    name: str = "test",
    command: str | None = None,
    temperature: float | None = None,
) -> dict[str, str]:
    """The report of an evaluation, and its figures as `figures/<name>_<figure>.svg`.

    Args:
        folder: run folder; its `metrics.jsonl` gives the training curve.
        evaluation: document of schema `trcgl.evaluation/1`; metrics that an earlier version did not store are left out.
        predictions: the evaluated predictions.
        dataset: dataset of the predictions, for pictures and the label distribution in training; None leaves pictures
            out.
        name: name of the evaluation: `test`, `val`, or `<dataset>-<split>` for another dataset than the run's own. The
            page of `test` is `report.html`, other pages are `report-<name>.html`.
        command: the command that trained the run.
        temperature: temperature of the calibration.

    Returns:
        Path below the run folder to the text of each file, the page last.
    """
    from trcgl.evaluate.figures import in_order

    space = predictions.space
    log = _log(folder / "metrics.jsonl")
    own = dataset is not None and name == evaluation["split"]
    phantom = bool(dataset and dataset.info["source"] == "phantom")
    sentences = lead(evaluation, "phantoms" if phantom else "radiographs")
    commands = _commands(folder, evaluation["split"], None if own else dataset, command)
    mistakes, pictures = _mistakes(predictions, evaluation, dataset)
    names, means = in_order(space, evaluation["findings"]), _means_over(space, evaluation)
    plots = _figures(evaluation, predictions, dataset if own else None, log)
    body = _template().render(
        evaluation=evaluation,
        names=names,
        metrics=sorted(
            (metric for metric in METRICS.values() if f"m{metric.name}" in evaluation["overall"]),
            key=lambda metric: metric.name != evaluation.get("headline"),
        ),
        means=means,
        figures={
            key: {"svg": Markup(html.inline_svg(svg, description)), "description": description} if svg else None
            for key, (svg, description) in plots.items()
        },
        temperature=temperature,
        mistakes=mistakes,
        pictures=pictures,
        located=evaluation.get("localization"),
        located_metrics=LOCALIZATION_METRICS,
        counted_on="in training" if own else f"in {evaluation['split']}",
        gates=_gates(log),
        run=folder.resolve().name,
        dataset=dataset.folder.resolve().name if dataset else "DATASET",
        commands=commands,
        notes=[*dataset.info.get("notes", ()), dataset.info.get("license", "")] if dataset else [],
    )
    page = html.page(
        f"{folder.resolve().name} on {dataset.name if dataset else space.name}, {name}",
        body,
        lead=sentences,
        phantom=phantom,
        sections=[(key, title) for key, title in SECTIONS if f'id="{key}"' in body],
        style=STYLE,
    )
    files = {f"figures/{name}_{key}.svg": svg for key, (svg, _) in plots.items() if svg}
    return files | {page_name(name): page}


def page_name(name: str) -> str:
    """File name of the report of an evaluation in its run folder."""
    return "report.html" if name == "test" else f"report-{name}.html"


def lead(evaluation: dict[str, Any], images: str = "radiographs") -> str:
    """What was found, in two sentences a clinician understands; for a benchmark that ranks by mAP, after its mAP."""
    split = {"val": "validation"}.get(evaluation["split"], evaluation["split"])
    area, precision = evaluation["overall"]["mAUC"], evaluation["overall"]["mAP"]
    counted = f"{evaluation['images']:,} {split} {images}"
    if "studies" in evaluation:
        counted = f"{evaluation['studies']:,} {split} studies with {evaluation['images']:,} {images}"
    units = "studies" if "studies" in evaluation else "images"
    first = f"On {counted} of {evaluation['patients']:,} patients, "
    if evaluation.get("headline") == "AP" and precision["value"] is not None:
        interval = " (95 % interval {:.3f}–{:.3f})".format(*precision["ci"]) if precision["ci"] else ""
        first += (
            f"macro mAP, by which methods are ranked on this dataset, is {precision['value']:.3f}{interval}, the mean "
            f"over {_findings(precision['findings'])}. On the same {images if units == 'images' else units}, "
        )
    if area["value"] is None:
        return f"{first}no finding can be evaluated: {area['why']}."
    interval = "95 % interval {:.2f}–{:.2f}, ".format(*area["ci"]) if area["ci"] else ""
    first += (
        f"the model separates {units} with a finding from {units} without it with a mean AUROC of {area['value']:.2f} "
        f"({interval}0.5 is chance)"
    )
    first += ", which is not shown to be better than chance." if area["ci"] and area["ci"][0] <= 0.5 else "."
    parts: dict[str, list[str]] = {"good": [], "chance": [], "few": []}
    for name, finding in evaluation["findings"].items():
        ends = finding["AUC"]["ci"]
        if finding["few"] or not ends:
            parts["few"].append(phrase(name))
        elif ends[0] >= GOOD:
            parts["good"].append(phrase(name))
        elif ends[0] <= 0.5:
            parts["chance"].append(phrase(name))
    rest = len(evaluation["findings"]) - sum(map(len, parts.values()))
    sentences = []
    if parts["good"]:
        sentences.append(f"it is good (the whole interval is above {GOOD}) for {_listed(parts['good'])}")
    if rest:
        sentences.append(f"it is better than chance, but not shown to be good, for {_findings(rest)}")
    if parts["chance"]:
        sentences.append(f"it is not shown to be better than chance for {_listed(parts['chance'])}")
    if parts["few"]:
        sentences.append(f"there are too few patients to tell for {_listed(parts['few'])}")
    second = "; ".join(sentences)
    return f"{first} {second[0].upper()}{second[1:]}."


def _listed(names: list[str], most: int = 6) -> str:
    """Names in a sentence; of a long list only its length."""
    if len(names) > most:
        return _findings(len(names))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _findings(count: int) -> str:
    return f"{count} finding{'s' if count > 1 else ''}"


def _means_over(space: LabelSpace, evaluation: dict[str, Any]) -> str:
    """How many findings the means are over, and why one is left out."""
    findings = evaluation["findings"]
    undefined = [name for name in space.scored if findings[name]["AUC"]["value"] is None]
    sentence = f"Each value is the mean over {_findings(len(space.scored) - len(undefined))}"
    reasons = []
    if space.normal in space.findings and space.normal not in space.scored:
        reasons.append(f"{space.normal} is left out, because it is the absence of findings")
    reasons += [f"{name} is left out, because it has {findings[name]['AUC']['why']}" for name in undefined]
    if few := evaluation["overall"]["mAUC"].get("few"):
        reasons.append(f"{few} of them {'have' if few > 1 else 'has'} fewer than 20 positive patients †")
    return f"{sentence}: {'; '.join(reasons)}." if reasons else f"{sentence}."


def _figures(
    evaluation: dict[str, Any], predictions: Predictions, trained_on: Dataset | None, log: list[dict[str, Any]]
) -> dict[str, tuple[str | None, str]]:
    """Name of each figure to its SVG and description; the SVG is None where there is nothing to plot."""
    from trcgl.dataset.figures import cooccurrence_matrix, label_distribution
    from trcgl.evaluate import figures

    space = predictions.space
    with html.house_style():
        precision_recall, reliability = figures.curves(predictions, evaluation)
        plots = {
            "findings": (figures.intervals(evaluation, space), "Average precision and AUROC of every finding"),
            "training": (figures.training_curve(log), "Training loss and mAP on val"),
            "precision_recall": (precision_recall, "Precision-recall curves"),
            "reliability": (reliability, "Reliability curves"),
        }
        if trained_on:
            seen = Cooccurrence.from_dict(trained_on.info["cooccurrence"])
        else:
            seen = counts(pl.DataFrame(predictions.truth, schema=list(space.findings)), space)
        plots |= {
            "label_distribution": (label_distribution(space, seen, ""), "Images per finding"),
            "cooccurrence": (cooccurrence_matrix(space, seen, ""), "Which finding comes with which"),
        }
    return {key: (html.svg_text(plot) if plot else None, description) for key, (plot, description) in plots.items()}


def _mistakes(
    predictions: Predictions, evaluation: dict[str, Any], dataset: Dataset | None
) -> tuple[list[Any], dict[str, str]]:
    from trcgl.evaluate.mistakes import most_confident, pictures

    if dataset is None:
        return [], {}
    chosen = most_confident(predictions, evaluation)
    shown = pictures(chosen, dataset)
    return [mistake for mistake in chosen if mistake.image_id in shown], shown


def _log(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _gates(log: list[dict[str, Any]]) -> dict[str, float]:
    """The last logged value of every gate that training could have moved."""
    logged = [{key: value for key, value in line.items() if key.startswith("gate/")} for line in log]
    values = [line for line in logged if line]
    return {key.removeprefix("gate/"): value for key, value in values[-1].items()} if values else {}


def _commands(folder: Path, split: str, other: Dataset | None, trained: str | None) -> list[str]:
    parts = ["trcgl evaluate", folder.resolve().name]
    parts += [f"--dataset {other.folder.resolve().name}"] if other else []
    parts += [f"--split {split}"] if split != "test" else []
    return [*([trained] if trained else []), " ".join(parts)]


def _template() -> Any:
    environment = html.environment("trcgl.evaluate")
    environment.filters["number"] = lambda value, digits: f"{value:.{digits}f}"
    environment.filters["significant"] = lambda value: np.format_float_positional(value, 3, fractional=False, trim="k")
    environment.filters["probability"] = lambda value: "below 0.001" if value < 0.001 else f"{value:.3f}"
    return environment.get_template("report.html.j2")
