"""`trcgl evaluate RUN RUN --out ENSEMBLE`: fit how several runs, views and images of a study are combined; evaluate.

An ensemble of one run is a run with test-time augmentation or study fusion.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from trcgl.core import storage
from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.folder_kind import ENSEMBLE, kind_of
from trcgl.core.lock import LOCK, locked
from trcgl.dataset.target import Target, own_target
from trcgl.evaluate.common_target import common_target, own_targets
from trcgl.evaluate.evaluate import refuse_same_name, score
from trcgl.evaluate.evaluation import evaluate
from trcgl.evaluate.fit_ensemble import Settings, Weighting, fit_combination, predictions_of
from trcgl.evaluate.predictions import table_of
from trcgl.evaluate.report import report
from trcgl.metrics.calibrate import calibrated
from trcgl.model.combination import EnsembleFolder, Member, pooled, read_ensemble, write_ensemble
from trcgl.model.ensemble import require_same_findings
from trcgl.model.folder import LoadedModel
from trcgl.model.fusion import FusionName
from trcgl.model.run_folder import Run, open_run
from trcgl.model.scoring import score_views
from trcgl.model.views import checked_views

Scores = Float[np.ndarray, "rows findings"]
_PARTS = (LOCK, "predictions", "evaluation", "figures")
"""What an interrupted command leaves in its folder, beside reports."""


def evaluate_ensemble(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    split: str = "test",
    dataset: str | Path | None = None,
    weights: Weighting = "equal",
    tta: Sequence[str] = (),
    fusion: FusionName = "none",
) -> dict[str, Any]:
    """Fit an ensemble of runs on val, evaluate it, and write it into a folder that `predict` and `serve` take.

    Each run has its own temperature, fitted on val; its probabilities are averaged over the runs and copies and fused
    by study. Then one temperature and the thresholds of the result are fitted on val.

    Args:
        folders: finished run folders with the same findings, trained on datasets with the same val and test images.
        out: folder to write; new, or written by the same command.
        split: `test` or `val`.
        dataset: folder of another dataset; None evaluates on the runs' own.
        weights: `equal`, or `greedy`: forward selection of runs for the mAP on val.
        tta: copies whose scores are averaged with the radiograph's: `flip`, and magnifications such as `0.9`.
        fusion: `none` evaluates images; `mean`, `max` and `learned` evaluate studies.

    Returns:
        The evaluation (schema `trcgl.evaluation/1`), as written to `evaluation/<name>.json`.

    Raises:
        DataError: a run is not finished, the runs were trained on other splits of a dataset, or as in `evaluate_run`.
        RecipeError: `out` holds something else, or a setting does not exist.
        CheckpointError: a model folder is damaged, or two runs have different findings.
    """
    settings, out = Settings(weights, checked_views(tta), fusion), Path(out)
    runs = [open_run(Path(folder)) for folder in folders]
    require_same_findings([run.folder for run in runs], [run.model for run in runs])
    made: dict[str, Any] = {
        "runs": [_named(run) for run in runs],
        "weights": settings.weights,
        "tta": list(settings.tta),
        "fusion": settings.fusion,
    }
    if _holds(out, made):
        return evaluate_ensemble_folder(out, split=split, dataset=dataset)
    targets, val = common_target(runs, split, dataset), own_targets(runs, "val")
    with locked(out):
        models = [dataclasses.replace(run.model, temperature=_temperature(run)) for run in runs]
        on_val = _scores(models, val, settings.tta)
        combination = fit_combination(on_val, val[0], settings)
        made["runs"] = [run | {"weight": weight} for run, weight in zip(made["runs"], combination.weights, strict=True)]
        used = [place for place, weight in enumerate(combination.weights) if weight]
        combination = dataclasses.replace(combination, weights=tuple(combination.weights[place] for place in used))
        members = [_member(runs[place], models[place]) for place in used]
        ensemble = EnsembleFolder(out, tuple(members), models[0].space, combination, {"made": made})
        evaluation = _evaluate(ensemble, runs[0], val[0], [on_val[place] for place in used])
        if targets[0].name != "val":
            each = _scores([models[place] for place in used], [targets[place] for place in used], settings.tta)
            evaluation = _evaluate(ensemble, runs[0], targets[0], each)
        write_ensemble(ensemble)
        return evaluation


def evaluate_ensemble_folder(
    folder: str | Path, *, split: str = "test", dataset: str | Path | None = None
) -> dict[str, Any]:
    """Evaluate an ensemble folder on a split of its own dataset or of another one, as it was fitted on val.

    Returns:
        The evaluation, as written into the folder.

    Raises:
        DataError: a run is gone or not finished, or as in `evaluate_run`.
        CheckpointError: the ensemble or a model is damaged, or a run was trained again.
    """
    ensemble = read_ensemble(Path(folder))
    runs = [open_run(member.folder) for member in ensemble.members]
    models = []
    for run, member in zip(runs, ensemble.members, strict=True):
        if run.model.info["weights_sha256"] != member.weights_sha256:
            raise CheckpointError(
                f"{run.folder} was trained again after {folder} was fitted. Evaluate the runs into another folder: "
                f"{ensemble.command}"
            )
        models.append(dataclasses.replace(run.model, temperature=member.temperature))
    targets = common_target(runs, split, dataset)
    with locked(ensemble.folder):
        return _evaluate(ensemble, runs[0], targets[0], _scores(models, targets, ensemble.combination.tta))


def _holds(out: Path, made: Mapping[str, Any]) -> bool:
    """Whether `out` holds the ensemble of the same command.

    Raises:
        RecipeError: it holds something else.
    """
    if kind_of(out) is ENSEMBLE:
        stored = read_ensemble(out)
        runs = [{name: value for name, value in run.items() if name != "weight"} for run in stored.info["made"]["runs"]]
        if {**stored.info["made"], "runs": runs} != made:
            raise RecipeError(f"{out} holds another ensemble, made by: {stored.command}. Choose another --out.")
        return True
    if out.is_dir() and any(path.name not in _PARTS and path.suffix != ".html" for path in out.iterdir()):
        kind = kind_of(out)
        raise RecipeError(f"{out} is {kind.name if kind else 'a folder of other files'}. Choose another --out.")
    return False


def _named(run: Run) -> dict[str, Any]:
    """What an ensemble records of a run; `mirrored`: whether it was trained on mirror images."""
    model = run.model
    name, weights = run.folder.resolve().name, model.info["weights_sha256"]
    return {"name": name, "weights_sha256": weights, "mirrored": model.knows_mirrored}


def _member(run: Run, model: LoadedModel) -> Member:
    return Member(run.folder, run.folder.resolve().name, model.info["weights_sha256"], model.temperature or 1.0)


def _temperature(run: Run) -> float:
    """Temperature of the calibration of a run on val; fitted here for a run that was not evaluated."""
    if run.model.temperature is not None:
        return run.model.temperature
    val = own_target(run.dataset, "val", run.recipe.train.with_none, run.recipe.evaluate.views)
    return score(run, {"val": val}).calibration.temperature


def _scores(models: Sequence[LoadedModel], targets: Sequence[Target], tta: Sequence[str]) -> list[Scores]:
    """Scores of each model on its target, averaged over copies, in the order of the findings of the target."""
    return [
        score_views(model, target.dataset.require_images(), target.rows["row"].to_numpy(), target.space.findings, tta)
        for model, target in zip(models, targets, strict=True)
    ]


def _evaluate(ensemble: EnsembleFolder, run: Run, target: Target, each: Sequence[Scores]) -> dict[str, Any]:
    """Evaluate the scores of the members, and write predictions, evaluation and report into the folder."""
    folder, combination = ensemble.folder, ensemble.combination
    stored = folder / "evaluation" / f"{target.name}.json"
    refuse_same_name(stored, target)
    units = predictions_of(pooled(each, combination.weights), target, combination.fusion)
    predictions = dataclasses.replace(units, score=calibrated(units.logit, combination.temperature))
    how = {"replicates": run.recipe.evaluate.replicates, "seed": run.recipe.evaluate.bootstrap_seed}
    evaluation = evaluate(predictions, combination.thresholds, split=target.split, **how)
    evaluation["ensemble"] = ensemble.summary
    if target.digest:
        evaluation["dataset_digest"] = target.digest
    if target.unchecked:
        evaluation["unchecked"] = list(target.unchecked)
    if headline := target.dataset.info.get("headline"):
        evaluation["headline"] = headline
    pages = report(
        folder,
        evaluation,
        predictions,
        target.dataset,
        name=target.name,
        command=ensemble.command,
        temperature=combination.temperature,
    )
    storage.write_parquet(folder / "predictions" / f"{target.name}.parquet", table_of(predictions))
    storage.write_json(stored, evaluation)
    for name, text in pages.items():
        storage.write_text(folder / name, text)
    return evaluation
