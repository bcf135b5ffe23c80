"""`trcgl evaluate RUN`: score, calibrate, evaluate, report."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.lock import locked
from trcgl.dataset.regions import find_regions
from trcgl.dataset.store import open_dataset
from trcgl.dataset.target import Target, external_target, own_target
from trcgl.evaluate.evaluation import evaluate
from trcgl.evaluate.localize import locate
from trcgl.evaluate.predictions import Predictions, read_predictions, table_of
from trcgl.evaluate.report import report
from trcgl.metrics.calibrate import Calibration, calibrated, fit_calibration
from trcgl.model.folder import update_calibration
from trcgl.model.run_folder import Run, open_run
from trcgl.model.scoring import check_fit, score_images
from trcgl.model.start_overlap import refuse_start_overlap


@dataclass(frozen=True)
class Scored:
    """The calibration of a run, and its calibrated predictions by name of the target."""

    calibration: Calibration
    predictions: Mapping[str, Predictions]
    new: tuple[str, ...]
    """Names of the predictions that are not in the run folder."""
    is_fitted: bool
    """Whether the calibration was fitted now, on val."""


def evaluate_run(
    run_folder: str | Path, *, split: str = "test", dataset: str | Path | None = None, localization: bool = True
) -> dict[str, Any]:
    """Evaluate a finished run; write predictions, calibration, evaluation and report into its folder.

        trcgl.evaluate_run("run")["overall"]["mAUC"]     # {"value": 0.736, "ci": [0.711, 0.760], ...}

    Temperature and thresholds are fitted once, on val of the run's own dataset. With `dataset`, the model is evaluated
    on another dataset (external validation), on the findings that both have, after a check that none of its images and
    patients was used in training, nor a patient in the training of its initial weights; `unchecked` of the evaluation
    names initial weights whose patients are not known.

    Args:
        run_folder: written by `trcgl train`.
        split: `test` or `val`.
        dataset: folder of another dataset; None evaluates on the run's own.
        localization: also measure where the model looks, on images with boxes or masks.

    Returns:
        The evaluation (schema `trcgl.evaluation/1`), as written to `evaluation/<name>.json`.

    Raises:
        DataError: the run is not finished, its dataset was moved or changed, the split is empty or has training
            patients, or the datasets share no finding.
        CheckpointError: the model folder is damaged.
    """
    run = open_run(Path(run_folder))
    with_none, views = run.recipe.train.with_none, run.recipe.evaluate.views
    if dataset is not None:
        other = open_dataset(dataset)
        check_fit(run.model, other)
        target = external_target(run.dataset, run.model.space, other, split, with_none, views)
        target = dataclasses.replace(target, unchecked=tuple(refuse_start_overlap(run, other, [split])))
    else:
        target = own_target(run.dataset, split, with_none, views)
    targets = {"val": own_target(run.dataset, "val", with_none, views), target.name: target}
    regions = find_regions(target.dataset, target.rows, target.space) if localization else None
    with locked(run.folder):
        refuse_same_name(run.folder / "evaluation" / f"{target.name}.json", target)
        how = {"replicates": run.recipe.evaluate.replicates, "seed": run.recipe.evaluate.bootstrap_seed}

        scored = score(run, targets)
        evaluations = {
            name: evaluate(scored.predictions[name], scored.calibration.thresholds, split=each.split, **how)
            for name, each in targets.items()
            if name == target.name or not (run.folder / "evaluation" / f"{name}.json").exists()
        }
        evaluation, predictions = evaluations[target.name], scored.predictions[target.name]
        if target.digest:
            evaluation["dataset_digest"] = target.digest
        if target.unchecked:
            evaluation["unchecked"] = list(target.unchecked)
        if headline := target.dataset.info.get("headline"):
            evaluation["headline"] = headline
        tables = {}
        if regions:
            located, evaluation["localization"] = locate(run.model, target.dataset, regions, target.space, **how)
            tables[f"{target.name}.localization"] = located
        tables |= {name: table_of(scored.predictions[name]) for name in scored.new}
        pages = report(
            run.folder,
            evaluation,
            predictions,
            target.dataset,
            name=target.name,
            command=run.info.get("command"),
            temperature=scored.calibration.temperature,
        )

        if scored.is_fitted:
            update_calibration(run.folder / "model", scored.calibration.thresholds, scored.calibration.temperature)
        for name, table in tables.items():
            storage.write_parquet(run.folder / "predictions" / f"{name}.parquet", table)
        for name, document in evaluations.items():
            storage.write_json(run.folder / "evaluation" / f"{name}.json", document)
        for name, text in pages.items():
            storage.write_text(run.folder / name, text)
        return evaluation


def refuse_same_name(stored: Path, target: Target) -> None:
    """Refuse to replace an evaluation by that of another dataset with the same name."""
    before = storage.read_json(stored) if target.digest and stored.exists() else {}
    if before.get("dataset_digest", target.digest) != target.digest:
        raise DataError(
            f"{stored} is of another dataset called {target.dataset.name!r}, or of {target.dataset.folder} as it "
            "was before. Give each its own name (trcgl prepare ... --name NAME), or remove that file."
        )


def score_run(run: Run, split: str = "test") -> Scored:
    """Score val and a split of the run's own dataset, and write predictions and calibration into the run folder."""
    with_none, views = run.recipe.train.with_none, run.recipe.evaluate.views
    scored = score(run, {name: own_target(run.dataset, name, with_none, views) for name in ("val", split)})
    if scored.is_fitted:
        update_calibration(run.folder / "model", scored.calibration.thresholds, scored.calibration.temperature)
    for name in scored.new:
        storage.write_parquet(run.folder / "predictions" / f"{name}.parquet", table_of(scored.predictions[name]))
    return scored


def score(run: Run, targets: Mapping[str, Target]) -> Scored:
    """Calibrated predictions of splits, val among them, by name of the target; nothing is written.

    A run is calibrated once, on val, and its own dataset is scored once: a second call reads what the first has stored.
    """
    model = run.model
    is_fitted = model.temperature is None or model.thresholds is None
    calibration = Calibration(model.temperature or 1.0, model.thresholds or {})
    predictions, new = {}, []
    for name, target in targets.items():
        path = run.folder / "predictions" / f"{name}.parquet"
        if not is_fitted and target.digest is None and path.exists():
            predictions[name] = read_predictions(path, target.space)
            continue
        columns = [model.space.index(finding) for finding in target.space.findings]
        logit = score_images(model, target.dataset.require_images(), target.rows["row"].to_numpy())[:, columns]
        probability = calibrated(logit, calibration.temperature)
        predictions[name] = Predictions.from_manifest(target.rows, target.space, logit=logit, score=probability)
        new.append(name)
    if is_fitted:
        val = predictions["val"]
        fixed = run.recipe.evaluate.threshold
        calibration = fit_calibration(val.logit, val.truth, val.space.findings, val.weight, fixed)
        predictions = {
            name: dataclasses.replace(each, score=calibrated(each.logit, calibration.temperature))
            for name, each in predictions.items()
        }
    return Scored(calibration, predictions, tuple(new), is_fitted)
