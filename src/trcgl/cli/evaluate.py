"""The verb `evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from trcgl.cli.verb import Done, plain


def evaluate(
    run: Path,
    /,
    *,
    split: Literal["test", "val"] = "test",
    dataset: Path | None = None,
    localization: bool = True,
) -> Done:
    """Evaluate a finished run: metrics with 95 % intervals over patients, and a report.

    Args:
        run: A finished run folder.
        split: Split to evaluate. Choose between recipes on val; evaluate on test once.
        dataset: Dataset folder for external validation on the shared findings; default: the dataset of the run.
        localization: Also measure where the model looks, on images with boxes or masks.
    """
    from trcgl.core.storage import read_json
    from trcgl.evaluate.evaluate import evaluate_run
    from trcgl.evaluate.report import lead
    from trcgl.metrics.summary import value_text

    evaluation = evaluate_run(run, split=split, dataset=dataset, localization=localization)
    name = split if dataset is None else f"{read_json(dataset / 'dataset.json')['name']}-{split}"
    page = run / ("report.html" if name == "test" else f"report-{name}.html")
    rows = [("", "findings", "mAP [95 %]", "mAUC [95 %]")]
    for group, means in (("overall", evaluation["overall"]), *evaluation["groups"].items()):
        rows.append((group, str(means["mAP"]["findings"]), value_text(means["mAP"], 4), value_text(means["mAUC"], 4)))
    title = f"{name}: {evaluation['images']:,} images of {evaluation['patients']:,} patients"
    lines = [lead(evaluation, "images"), "", title, *_aligned(rows), *_localization(evaluation.get("localization"))]
    return Done(evaluation, "\n".join([*lines, f"report: {page}"]))


def _localization(located: dict[str, Any] | None) -> list[str]:
    """Localization as means over findings, with the nulls."""
    if located is None:
        return []
    from trcgl.metrics.summary import value_text

    names = {
        "pointing": "pointing [95 %]",
        "energy": f"energy in {located['regions']} [95 %]",
        "IoU@0.5": "IoU at half [95 %]",
    }
    rows = [("", *names.values())]
    for kind in located["kinds"]:
        means = located["overall"][kind]
        rows.append((kind.replace("_", " "), *(value_text(means[metric], 4) for metric in names)))
        for null in means["pointing"]["against"]:
            values = [f"{means[metric]['against'][null]['value']:.4f}" for metric in names]
            rows.append((f"  null: {null.replace('_', ' ')}", *values))
    title = f"localization: {located['images']:,} images of {located['patients']:,} patients with {located['regions']}"
    return [f"{title}, means over {len(located['findings'])} findings", *_aligned(rows)]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


VERB = plain(evaluate, "trcgl evaluate run")
