"""`trcgl evaluate` on the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from trcgl.cli.verb import Done, Verb, plain


def evaluate(
    run: Path,
    /,
    *,
    split: Literal["test", "val"] = "test",
    dataset: Path | None = None,
    localization: bool = True,
) -> Done:
    """Judge a finished run, with patient-level intervals and a report.

    Args:
        run: A finished run folder.
        split: The split to judge. Choose between recipes on val; open test once.
        dataset: Another dataset folder: external validation on the findings that both have.
        localization: Also judge where the model looks, on the images that have boxes.
    """
    from trcgl.core.storage import read_json
    from trcgl.evaluate.evaluate import evaluate_run

    told = evaluate_run(run, split=split, dataset=dataset, localization=localization)
    name = split if dataset is None else f"{read_json(dataset / 'dataset.json')['name']}-{split}"
    page = run / ("report.html" if name == "test" else f"report-{name}.html")
    rows = [("", "findings", "mAP [95 %]", "mAUC [95 %]")]
    for group, means in (("overall", told["overall"]), *told["groups"].items()):
        rows.append((group, str(means["mAP"]["findings"]), _figure(means["mAP"]), _figure(means["mAUC"])))
    title = f"{name}: {told['images']:,} images of {told['patients']:,} patients"
    return Done(told, "\n".join([title, *_aligned(rows), *_located(told.get("localization")), f"report: {page}"]))


def _located(told: dict[str, Any] | None) -> list[str]:
    """Where the model looked, in means over findings, beside the nulls."""
    if told is None:
        return []
    names = {
        "pointing": "pointing [95 %]",
        "energy": f"energy in {told['regions']} [95 %]",
        "IoU@0.5": "IoU at half [95 %]",
    }
    rows = [("", *names.values())]
    for kind in told["kinds"]:
        of_kind = told["overall"][kind]
        rows.append((kind.replace("_", " "), *(_figure(of_kind[metric]) for metric in names)))
        for null in of_kind["pointing"]["against"]:
            values = [f"{of_kind[metric]['against'][null]['value']:.4f}" for metric in names]
            rows.append((f"  null: {null.replace('_', ' ')}", *values))
    title = f"localization: {told['images']:,} images of {told['patients']:,} patients with {told['regions']}"
    return [f"{title}, means over {len(told['findings'])} findings", *_aligned(rows)]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _figure(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return metric["why"]
    return f"{metric['value']:.4f}" + (" [{:.4f}, {:.4f}]".format(*metric["ci"]) if metric["ci"] else "")


VERB = Verb(
    "Judge a finished run, with patient-level intervals and a report.",
    "trcgl evaluate run",
    plain(evaluate),
)
