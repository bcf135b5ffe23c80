"""Predictions of studies, made of the predictions of their images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from trcgl.evaluate.predictions import Predictions
from trcgl.model.combination import log_odds
from trcgl.model.fusion import fuse


def studies_of(images: pl.DataFrame) -> list[list[int]]:
    """The rows of the images of each study, in the order of the first images; `images` are rows of a manifest.

    A study is a `study_id` of a patient. An image without a `study_id` is a study of its own.
    """
    rows: dict[tuple[str, str, bool], list[int]] = {}
    for row, (patient, study, image) in enumerate(images.select("patient_id", "study_id", "image_id").iter_rows()):
        key = (patient, image, True) if study is None else (patient, study, False)
        rows.setdefault(key, []).append(row)
    return list(rows.values())


def study_labels(
    truth: Float[np.ndarray, "images findings"], studies: Sequence[Sequence[int]]
) -> Float[np.ndarray, "studies findings"]:
    """Present where an image of the study is labeled present, absent where all are labeled absent, else unknown."""
    labels = np.empty((len(studies), truth.shape[1]), truth.dtype)
    for study, rows in enumerate(studies):
        present = (truth[rows] == 1).any(axis=0)
        labels[study] = np.where(present, 1.0, truth[rows].sum(axis=0) * 0)  # NaN if a label is unknown
    return labels


def by_study(
    predictions: Predictions, studies: Sequence[Sequence[int]], weights: Float[np.ndarray, " findings"]
) -> Predictions:
    """Predictions with one row per study, whose score is fused with the weights of `Fusion`.

    The image_id is that of the first image, the weight is the mean of the images'. View, label source, age and sex are
    empty where images differ.
    """
    first = [rows[0] for rows in studies]
    score = fuse(predictions.score, studies, weights)

    def shared(values: pl.Series) -> pl.Series:
        column = values.to_list()
        return pl.Series(values.name, [_only({column[row] for row in rows}) for rows in studies], values.dtype)

    return Predictions(
        image_id=predictions.image_id.gather(first),
        patient_id=predictions.patient_id.gather(first),
        study_id=predictions.study_id.gather(first),
        view=shared(predictions.view),
        label_source=shared(predictions.label_source),
        age=shared(predictions.age),
        sex=shared(predictions.sex),
        weight=np.array([predictions.weight[rows].mean() for rows in studies]),
        score=score,
        truth=study_labels(predictions.truth, studies),
        space=predictions.space,
        logit=log_odds(score),
        images=np.array([len(rows) for rows in studies], np.int64),
    )


def _only(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else None
