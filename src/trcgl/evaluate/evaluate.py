"""`trcgl evaluate RUN`: score val and test, fit temperature and thresholds on val, judge, report."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.core.recipe import Recipe, from_json
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.evaluate.evaluation import judge
from trcgl.evaluate.localization import evaluate_localization
from trcgl.evaluate.localize import boxed_pairs, localize, phantom_masks
from trcgl.evaluate.predictions import Predictions, read_predictions, write_predictions
from trcgl.evaluate.report import write_report
from trcgl.metrics.calibrate import calibrated, fit_temperature, fit_thresholds
from trcgl.model.folder import LoadedModel, best_device, load_model, update_calibration
from trcgl.model.maps import kinds
from trcgl.model.tensors import at_size

BATCH = 64
"""Images that are scored at once."""


def evaluate_run(
    run_folder: Path, *, split: str = "test", dataset: Path | None = None, localization: bool = True
) -> dict[str, Any]:
    """Judge a finished run and write its report.

    Temperature and thresholds are fitted on val of the run's own dataset, once. With `dataset`, the model is judged on
    another dataset (external validation): on the findings that both have, after a check that no training image and no
    training patient is among the images.

    Args:
        run_folder: written by `trcgl train`.
        split: `test` or `val`.
        dataset: folder of another dataset; None judges on the run's own.
        localization: also judge where the model looks, on images that have boxes; nothing is done where none has.

    Returns:
        The evaluation (schema `trcgl.evaluation/1`), as written to `evaluation/`.

    Raises:
        DataError: the run is not finished, its dataset moved or changed, the split is empty or holds training
            patients, or the datasets share no finding.
        CheckpointError: the model folder is damaged.
    """
    run_folder = Path(run_folder)
    own = open_own_dataset(run_folder)
    calibrate(run_folder, own)
    if dataset is None:
        result = _judge(run_folder, own, split, localization)
        write_report(run_folder, own, split)
    else:
        result = _judge_external(run_folder, own, open_dataset(Path(dataset)), split, localization)
    return result


def open_own_dataset(run_folder: Path) -> Dataset:
    """The dataset that a run was trained on.

    Raises:
        DataError: it is not where it was, or no longer what it was.
    """
    info = storage.read_json(run_folder / "run.json")
    if "finished" not in info:
        raise DataError(f"{run_folder} is not finished. Run the same `trcgl train` command again; it resumes.")
    folder = Path(os.path.normpath(run_folder.resolve() / info["dataset"]))
    if not folder.is_dir():
        raise DataError(
            f"{run_folder} was trained on {folder}, which is gone. Put the dataset back, or change `dataset` in "
            f"{run_folder}/run.json to where it lies now (relative to the run)."
        )
    if storage.sha256_file(folder / "dataset.json") != info["dataset_digest"]:
        raise DataError(f"{folder} is no longer the dataset that {run_folder} was trained on. Train a new run on it.")
    return open_dataset(folder)


def calibrate(run_folder: Path, own: Dataset) -> None:
    """Fit on val what is fitted there, and judge val, once."""
    fit_on_val(run_folder, own)
    if not (run_folder / "evaluation" / "val.json").exists():
        _judge(run_folder, own, "val", False)


def fit_on_val(run_folder: Path, own: Dataset) -> None:
    """Score val, fit one temperature and the thresholds on it, and write them into the model folder, once."""
    path = run_folder / "predictions" / "val.parquet"
    model = load_model(run_folder / "model", device=best_device())
    if path.exists() and model.temperature is not None:
        return
    rows = own.split("val", with_none=_recipe(run_folder).train.with_none)
    logits = score_rows(model, own, rows["row"].to_numpy())
    uncalibrated = Predictions.from_manifest(rows, own.space, logit=logits, score=calibrated(logits, 1.0))
    temperature = fit_temperature(logits, uncalibrated.truth, uncalibrated.weight)
    score = calibrated(logits, temperature)
    thresholds, _ = fit_thresholds(score, uncalibrated.truth, own.space, uncalibrated.weight)
    write_predictions(path, Predictions.from_manifest(rows, own.space, logit=logits, score=score))
    update_calibration(run_folder / "model", thresholds, temperature)


def score_split(run_folder: Path, dataset: Dataset, split: str, path: Path) -> Predictions:
    """Score the rows of a split that take part and write them to `path`.

    Where the dataset has other findings than the model, the predictions hold those that both have, in the model's
    order and groups.

    Raises:
        DataError: the split is empty, the images were made square otherwise than the model's, or no finding is shared.
    """
    model = load_model(run_folder / "model", device=best_device())
    if dataset.info["fit"] != model.fit:
        raise DataError(
            f"{dataset.folder} was prepared with --fit {dataset.info['fit']}, the model with {model.fit}. "
            f"Prepare it with --fit {model.fit}."
        )
    space = shared_space(model.space, dataset)
    columns = [model.space.index(one) for one in space.findings]
    rows = dataset.split(split, with_none=_recipe(run_folder).train.with_none)
    logits = score_rows(model, dataset, rows["row"].to_numpy())[:, columns]
    score = calibrated(logits, model.temperature or 1.0)
    predictions = Predictions.from_manifest(rows, space, logit=logits, score=score)
    write_predictions(path, predictions)
    return predictions


def score_rows(model: LoadedModel, dataset: Dataset, rows: np.ndarray) -> Float[np.ndarray, "rows findings"]:
    """Raw logits of rows of the store, resized to the model's size as in training."""
    return score_images(model, dataset.require_images(), rows)


def score_images(
    model: LoadedModel, images: UInt8[np.ndarray, "store height width"], rows: np.ndarray | None = None
) -> Float[np.ndarray, "rows findings"]:
    """Raw logits of images, or of some of them, resized to the model's size as in training."""
    rows = np.arange(len(images)) if rows is None else rows
    parts = [np.empty((0, len(model.space.findings)), np.float32)]
    for start in track(range(0, len(rows), BATCH), what="scoring"):
        batch = torch.from_numpy(images[rows[start : start + BATCH]])
        parts.append(model.logits(at_size(batch, model.image_size).numpy()))
    return np.concatenate(parts)


def shared_space(space: LabelSpace, dataset: Dataset) -> LabelSpace:
    """The label space of a model, cut to the findings of a dataset.

    Raises:
        DataError: they share none.
    """
    findings = tuple(one for one in space.findings if one in dataset.space.findings)
    if not findings:
        raise DataError(
            f"{dataset.folder} has none of the model's findings. It has {', '.join(dataset.space.findings)}; the model "
            f"has {', '.join(space.findings)}. Map its labels to these names when preparing it."
        )
    return LabelSpace(
        space.name,
        findings,
        {one: space.groups[one] for one in findings if one in space.groups},
        "name",
        normal=space.normal if space.normal in findings else None,
        normal_in_means=space.normal_in_means,
        raw={one: space.raw[one] for one in findings if one in space.raw},
    )


def refuse_overlap(own: Dataset, other: Dataset, split: str) -> None:
    """Refuse to judge a model on what it was trained on.

    An image is recognized by the digest of its file, a patient by its identifier where both datasets come from the
    same archive (elsewhere the same identifier is another person).

    Raises:
        DataError: a training or val image or patient of `own` is in the split of `other`.
    """
    seen = own.manifest.filter(own.manifest["split"].is_in(["train", "val"]))
    judged = other.manifest.filter(other.manifest["split"] == split)
    names = ["sha256"] if own.info["source"] != other.info["source"] else ["sha256", "patient_id"]
    for name in names:
        both = judged.filter(judged[name].is_in(seen[name].drop_nulls().unique().implode()))
        if both.height:
            what = "image" if name == "sha256" else "patient"
            raise DataError(
                f"{other.folder}: the {what} of {both['image_id'][0]!r} and {both.height - 1} more rows of {split} "
                "were used in training or selection. Judge on patients that the model has not seen."
            )


def _judge(run_folder: Path, own: Dataset, split: str, localization: bool) -> dict[str, Any]:
    path = run_folder / "predictions" / f"{split}.parquet"
    predictions = read_predictions(path, own.space) if path.exists() else score_split(run_folder, own, split, path)
    located = _localization(run_folder, own, split, split, own.space) if localization else None
    return _write_evaluation(run_folder, predictions, split, split, located)


def _judge_external(run_folder: Path, own: Dataset, other: Dataset, split: str, localization: bool) -> dict[str, Any]:
    refuse_overlap(own, other, split)
    name, digest = f"{other.name}-{split}", storage.sha256_file(other.folder / "dataset.json")
    _refuse_namesake(run_folder / "evaluation" / f"{name}.json", other, digest)
    predictions = score_split(run_folder, other, split, run_folder / "predictions" / f"{name}.parquet")
    located = _localization(run_folder, other, split, name, predictions.space) if localization else None
    result = _write_evaluation(run_folder, predictions, split, name, located, dataset_digest=digest)
    write_report(run_folder, other, name)
    return result


def _refuse_namesake(evaluation: Path, other: Dataset, digest: str) -> None:
    """Keep the evaluation of another dataset that has the same name."""
    if evaluation.exists() and storage.read_json(evaluation).get("dataset_digest", digest) != digest:
        raise DataError(
            f"{evaluation} is of another dataset called {other.name!r}, or of {other.folder} as it was before. Give "
            "each its own name (trcgl prepare ... --name NAME), or remove that file."
        )


def _localization(
    run_folder: Path, dataset: Dataset, split: str, name: str, space: LabelSpace
) -> dict[str, Any] | None:
    """Where the maps lie, or None without boxes."""
    recipe = _recipe(run_folder)
    pairs = boxed_pairs(dataset, dataset.split(split, with_none=recipe.train.with_none), space)
    if pairs is None:
        return None
    model = load_model(run_folder / "model", device=best_device())
    settings = recipe.evaluate
    masks = phantom_masks(dataset, pairs)
    table = localize(model, dataset, pairs, masks=masks, seed=settings.bootstrap_seed)
    with storage.atomic(run_folder / "predictions" / f"{name}.localization.parquet") as aside:
        table.write_parquet(aside)
    return evaluate_localization(
        table,
        kinds(model),
        space,
        regions="boxes" if masks is None else "masks",
        replicates=settings.replicates,
        seed=settings.bootstrap_seed,
    )


def _write_evaluation(
    run_folder: Path,
    predictions: Predictions,
    split: str,
    name: str,
    located: dict[str, Any] | None,
    **more: str,
) -> dict[str, Any]:
    settings = _recipe(run_folder).evaluate
    model = load_model(run_folder / "model")
    thresholds = {one: (model.thresholds or {})[one] for one in predictions.space.findings}
    result = judge(
        predictions,
        predictions.space,
        thresholds,
        split=split,
        replicates=settings.replicates,
        seed=settings.bootstrap_seed,
    )
    result |= more | ({"localization": located} if located else {})
    storage.write_json(run_folder / "evaluation" / f"{name}.json", result)
    return result


def _recipe(run_folder: Path) -> Recipe:
    return from_json((run_folder / "recipe.json").read_text(encoding="utf-8"))
