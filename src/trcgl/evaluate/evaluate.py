"""`trcgl evaluate RUN`: score, calibrate, evaluate, report."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.overlap import refuse_overlap
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.evaluate.evaluation import evaluate
from trcgl.evaluate.localize import locate
from trcgl.evaluate.predictions import Predictions, read_predictions, write_predictions
from trcgl.evaluate.report import write_report
from trcgl.metrics.calibrate import Calibration, calibrated, fit_calibration
from trcgl.model.folder import update_calibration
from trcgl.model.run_folder import Run, open_run
from trcgl.model.scoring import check_fit, score_images


@dataclass(frozen=True)
class Target:
    """The split on which a run is evaluated.

    Args:
        name: name of the evaluation: `test`, `val`, or `<dataset>-<split>` for another dataset than the run's own.
        split: name of the split.
        dataset: dataset of the split.
        space: findings that model and dataset share, in the order of the model.
        digest: digest of another dataset; None for the run's own.
    """

    name: str
    split: str
    dataset: Dataset
    space: LabelSpace
    digest: str | None = None


def evaluate_run(
    run_folder: str | Path, *, split: str = "test", dataset: str | Path | None = None, localization: bool = True
) -> dict[str, Any]:
    """Evaluate a finished run; write predictions, calibration, evaluation and report into its folder.

        trcgl.evaluate_run("run")["overall"]["mAUC"]     # {"value": 0.736, "ci": [0.711, 0.760], ...}

    Temperature and thresholds are fitted once, on val of the run's own dataset. With `dataset`, the model is evaluated
    on another dataset (external validation), on the findings that both have, after a check that none of its images and
    patients was used in training.

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
    target = own_split(run, split) if dataset is None else _external(run, open_dataset(dataset), split)
    calibration = calibrate(run)
    targets = [target]
    if split != "val" and not (run.folder / "evaluation" / "val.json").exists():
        targets.insert(0, own_split(run, "val"))
    for each in targets:
        predictions = score(run, each, calibration)
        evaluation = _evaluate(run, each, predictions, calibration, localization and each is target)
    write_report(
        run.folder,
        evaluation,
        predictions,
        target.dataset,
        name=target.name,
        command=run.info.get("command"),
        temperature=calibration.temperature,
    )
    return evaluation


def own_split(run: Run, split: str) -> Target:
    """A split of the dataset that the run was trained on."""
    return Target(split, split, run.dataset, run.dataset.space)


def calibrate(run: Run) -> Calibration:
    """Score val, fit the calibration on it and write both into the run folder; a run is calibrated once."""
    path, model = run.folder / "predictions" / "val.parquet", run.model
    if path.exists() and model.temperature is not None and model.thresholds is not None:
        return Calibration(model.temperature, model.thresholds)
    val = own_split(run, "val")
    uncalibrated = _score(run, val, temperature=1.0)
    calibration = fit_calibration(
        uncalibrated.logit, uncalibrated.truth, uncalibrated.space.findings, uncalibrated.weight
    )
    score = calibrated(uncalibrated.logit, calibration.temperature)
    write_predictions(path, dataclasses.replace(uncalibrated, score=score))
    update_calibration(run.folder / "model", calibration.thresholds, calibration.temperature)
    return calibration


def score(run: Run, target: Target, calibration: Calibration) -> Predictions:
    """Calibrated predictions of a split, written into the run folder; those of the run's own dataset are scored once.

    Raises:
        DataError: the split is empty, or its images were made square in another way than those of the model.
    """
    path = run.folder / "predictions" / f"{target.name}.parquet"
    if target.digest is None and path.exists():
        return read_predictions(path, target.space)
    predictions = _score(run, target, calibration.temperature)
    write_predictions(path, predictions)
    return predictions


def _external(run: Run, other: Dataset, split: str) -> Target:
    """A split of another dataset, without overlap with the training data."""
    refuse_overlap(run.dataset, other, split)
    name, digest = f"{other.name}-{split}", storage.sha256_file(other.folder / "dataset.json")
    stored = run.folder / "evaluation" / f"{name}.json"
    if stored.exists() and storage.read_json(stored).get("dataset_digest", digest) != digest:
        raise DataError(
            f"{stored} is of another dataset called {other.name!r}, or of {other.folder} as it was before. Give "
            "each its own name (trcgl prepare ... --name NAME), or remove that file."
        )
    return Target(name, split, other, _shared_space(run.model.space, other), digest)


def _shared_space(space: LabelSpace, dataset: Dataset) -> LabelSpace:
    """The label space of a model, reduced to the findings of a dataset."""
    findings = tuple(finding for finding in space.findings if finding in dataset.space.findings)
    if not findings:
        raise DataError(
            f"{dataset.folder} has none of the model's findings. It has {', '.join(dataset.space.findings)}; the model "
            f"has {', '.join(space.findings)}. Map its labels to these names when preparing it."
        )
    return LabelSpace(
        space.name,
        findings,
        {finding: space.groups[finding] for finding in findings if finding in space.groups},
        "name",
        normal=space.normal if space.normal in findings else None,
        normal_in_means=space.normal_in_means,
        raw={finding: space.raw[finding] for finding in findings if finding in space.raw},
    )


def _score(run: Run, target: Target, temperature: float) -> Predictions:
    model, dataset = run.model, target.dataset
    check_fit(model, dataset)
    rows = dataset.split(target.split, with_none=run.recipe.train.with_none)
    columns = [model.space.index(finding) for finding in target.space.findings]
    logit = score_images(model, dataset.require_images(), rows["row"].to_numpy())[:, columns]
    return Predictions.from_manifest(rows, target.space, logit=logit, score=calibrated(logit, temperature))


def _evaluate(
    run: Run, target: Target, predictions: Predictions, calibration: Calibration, localization: bool
) -> dict[str, Any]:
    how = {"replicates": run.recipe.evaluate.replicates, "seed": run.recipe.evaluate.bootstrap_seed}
    evaluation = evaluate(predictions, calibration.thresholds, split=target.split, **how)
    evaluation |= {"dataset_digest": target.digest} if target.digest else {}
    if localization:
        located = locate(run.model, target.dataset, predictions, **how)
        if located is not None:
            table, evaluation["localization"] = located
            with storage.atomic(run.folder / "predictions" / f"{target.name}.localization.parquet") as aside:
                table.write_parquet(aside)
    storage.write_json(run.folder / "evaluation" / f"{target.name}.json", evaluation)
    return evaluation
