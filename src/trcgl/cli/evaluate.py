"""The verb `evaluate`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from trcgl.cli.verb import NEVER_MIRRORED, Done, plain
from trcgl.core.errors import RecipeError


def evaluate(
    run: Path,
    runs: tuple[Path, ...] = (),
    /,
    *,
    out: Path | None = None,
    split: Literal["test", "val"] = "test",
    dataset: Path | None = None,
    localization: bool = True,
    weights: Literal["equal", "greedy"] = "equal",
    tta: tuple[str, ...] = (),
    fusion: Literal["none", "mean", "max", "learned"] = "none",
) -> Done:
    """Evaluate a finished run, or an ensemble of runs: metrics with 95 % intervals over patients, and a report.

    Args:
        run: A finished run folder, or an ensemble folder that this verb wrote.
        runs: Further runs with the same findings and splits; their scores are averaged.
        out: Folder for the ensemble; needed for several runs, --tta and --fusion. `predict`, `serve`, `export` and
            `compare` take this folder.
        split: Split to evaluate. Choose between recipes on val; evaluate on test once.
        dataset: Dataset folder for external validation on the shared findings; default: the dataset of the run.
        localization: Also measure where the model looks, on images with boxes or masks; not for an ensemble.
        weights: Weights of the runs: `equal`, or `greedy`, selected for the mAP on val (Caruana et al. 2004).
        tta: Test-time augmentation: copies whose scores are averaged with the radiograph's. `flip` is the mirror image;
            a number such as 0.9 or 1.1 is a magnification.
        fusion: Score studies: the `mean` or the maximum (`max`) over their images, or a mixture of both for each
            finding, `learned` on val. Default: score images.
    """
    from trcgl.core.folder_kind import ENSEMBLE, kind_of
    from trcgl.core.storage import read_json
    from trcgl.evaluate.evaluate import evaluate_run
    from trcgl.evaluate.report import lead, page_name
    from trcgl.metrics.summary import value_text

    combined = bool(runs or tta or fusion != "none" or weights != "equal")
    if combined or out is not None:
        for folder in (run, *runs):
            if kind_of(folder) is ENSEMBLE:
                raise RecipeError(
                    f"{folder} is an ensemble, which is evaluated alone and without --out, --weights, --tta and "
                    "--fusion, as it was fitted. To combine its runs in another way, name the runs and another --out."
                )
    if out is not None:
        from trcgl.evaluate.ensemble import evaluate_ensemble

        evaluation = evaluate_ensemble(
            [run, *runs], out, split=split, dataset=dataset, weights=weights, tta=tta, fusion=fusion
        )
    elif combined:
        raise RecipeError("Several runs, --weights, --tta and --fusion make an ensemble. Name its folder with --out.")
    elif kind_of(run) is ENSEMBLE:
        from trcgl.evaluate.ensemble import evaluate_ensemble_folder

        evaluation = evaluate_ensemble_folder(run, split=split, dataset=dataset)
    else:
        evaluation = evaluate_run(run, split=split, dataset=dataset, localization=localization)
    if "ensemble" in evaluation:
        _warn(evaluation)
    name = split if dataset is None else f"{read_json(dataset / 'dataset.json')['name']}-{split}"
    page = (out or run) / page_name(name)
    rows = [("", "findings", "mAP [95 %]", "mAUC [95 %]")]
    for group, means in (("overall", evaluation["overall"]), *evaluation["groups"].items()):
        rows.append((group, str(means["mAP"]["findings"]), value_text(means["mAP"], 4), value_text(means["mAUC"], 4)))
    counted = f"{evaluation['images']:,} images"
    if "studies" in evaluation:
        counted = f"{evaluation['studies']:,} studies with {counted}"
    title = f"{name}: {counted} of {evaluation['patients']:,} patients"
    lines = [lead(evaluation, "images"), "", title, *_aligned(rows), *_localization(evaluation.get("localization"))]
    lines += _runs(evaluation["ensemble"]) if "ensemble" in evaluation else []
    return Done(evaluation, "\n".join([*lines, f"report: {page}"]))


def _runs(ensemble: dict[str, Any]) -> list[str]:
    """The weights of the runs."""
    return _aligned([("", "weight"), *((run["name"], f"{run['weight']:.2f}") for run in ensemble["runs"])])


def _warn(evaluation: dict[str, Any]) -> None:
    """Say on stderr if mirror images are scored by a run trained without any, or if fusion changes nothing."""
    ensemble = evaluation["ensemble"]
    if "flip" in ensemble["tta"] and not all(run["mirrored"] for run in ensemble["runs"]):
        print(NEVER_MIRRORED, file=sys.stderr)
    if evaluation.get("studies") == evaluation["images"]:
        print(
            f"--fusion {ensemble['fusion']}: every study of {evaluation['split']} has a single image, so that no "
            "scores are fused. (An image without a study_id is a study of its own.)",
            file=sys.stderr,
        )


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
