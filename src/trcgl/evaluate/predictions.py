"""Predictions: scores and labels of the images of one split, stored in `predictions/<split>.parquet`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import label_array

COLUMNS: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "patient_id": pl.String(),
    "study_id": pl.String(),
    "view": pl.String(),
    "label_source": pl.String(),
    "age": pl.Float64(),
    "sex": pl.String(),
    "weight": pl.Float64(),
}
"""Columns before `score/<finding>`, `logit/<finding>` and `truth/<finding>`."""
IMAGES = "images"
"""Further column of fused studies: their number of images."""


@dataclass(frozen=True)
class Predictions:
    """Scores and labels of the images of one split, or of its studies.

    Args:
        image_id: unique; of a study, its first image.
        patient_id: never null: the bootstrap resamples patients.
        study_id: may be null.
        view: frontal, lateral, other, or null.
        label_source: may be null.
        age: in years, or null.
        sex: F, M, or null.
        weight: weight of the image in metrics.
        score: calibrated probability.
        truth: 1 present, 0 absent, NaN unknown.
        space: label space of the columns.
        logit: output of the network, before calibration; of an ensemble, the log odds of the mean score.
        images: number of images of each study; None where every row is an image.

    Raises:
        DataError: lengths differ, an image_id occurs twice, a patient_id is null, or a score is not a probability.
    """

    image_id: pl.Series
    patient_id: pl.Series
    study_id: pl.Series
    view: pl.Series
    label_source: pl.Series
    age: pl.Series
    sex: pl.Series
    weight: Float[np.ndarray, " rows"]
    score: Float[np.ndarray, "rows findings"]
    truth: Float[np.ndarray, "rows findings"]
    space: LabelSpace
    logit: Float[np.ndarray, "rows findings"]
    images: Int[np.ndarray, " rows"] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.image_id), len(self.space.findings))
        for name in ("score", "truth", "logit"):
            if getattr(self, name).shape != shape:
                raise DataError(f"predictions: {name} has shape {getattr(self, name).shape}, expected {shape}.")
        for name in ("patient_id", "study_id", "view", "label_source", "age", "sex", "weight"):
            if len(getattr(self, name)) != shape[0]:
                raise DataError(f"predictions: {len(getattr(self, name))} values of {name} for {shape[0]} images.")
        if self.image_id.is_duplicated().any():
            twice = self.image_id.filter(self.image_id.is_duplicated())[0]
            raise DataError(f"predictions: image {twice!r} occurs more than once. Score the split again.")
        if self.patient_id.null_count():
            image = self.image_id[self.patient_id.is_null().arg_true()[0]]
            raise DataError(f"predictions: image {image!r} has no patient_id; intervals resample patients.")
        if not (valid := (self.score >= 0) & (self.score <= 1)).all():
            row, column = np.argwhere(~valid)[0]
            raise DataError(
                f"predictions: image {self.image_id[int(row)]!r} has score {self.score[row, column]} for "
                f"{self.space.findings[column]}, which is not a probability. Look for NaN in training, and "
                "score the split again."
            )

    def __len__(self) -> int:
        return len(self.image_id)

    @classmethod
    def from_manifest(
        cls,
        rows: pl.DataFrame,
        space: LabelSpace,
        *,
        logit: Float[np.ndarray, "rows findings"],
        score: Float[np.ndarray, "rows findings"],
    ) -> "Predictions":
        """Scores of manifest rows, in their order."""
        columns: dict[str, Any] = {name: rows[name] for name in COLUMNS if name != "weight"}
        return cls(
            **columns,
            weight=rows["weight"].to_numpy().astype(np.float64),
            score=score,
            truth=label_array(rows, space),
            space=space,
            logit=logit,
        )

    def select(self, rows: Bool[np.ndarray, " rows"]) -> "Predictions":
        """The rows where `rows` is true."""
        series = {name: getattr(self, name).filter(pl.Series(rows)) for name in COLUMNS if name != "weight"}
        arrays = {name: getattr(self, name)[rows] for name in ("weight", "score", "truth", "logit")}
        images = None if self.images is None else self.images[rows]
        return Predictions(**series, **arrays, space=self.space, images=images)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Truth, score, patient_id and weight: the first arguments of `trcgl.metrics.summary.measure`."""
        return self.truth, self.score, self.patient_id.to_numpy(), self.weight


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `table_of` predictions as Parquet; the file appears whole or not at all.

    Raises:
        DataError: the folder cannot be written to.
    """
    storage.write_parquet(path, table_of(predictions))


def table_of(predictions: Predictions) -> pl.DataFrame:
    """The table that is stored: `COLUMNS`, of studies `IMAGES`, then score, logit and truth of every finding."""
    columns = [pl.Series(name, getattr(predictions, name), kind) for name, kind in COLUMNS.items()]
    columns += [] if predictions.images is None else [pl.Series(IMAGES, predictions.images, pl.Int64)]
    for kind in ("score", "logit", "truth"):
        values = getattr(predictions, kind)
        for column, finding in enumerate(predictions.space.findings):
            series = pl.Series(f"{kind}/{finding}", values[:, column], pl.Float32)
            columns.append(series.fill_nan(None).cast(pl.Int8) if kind == "truth" else series)
    return pl.DataFrame(columns)


def read_predictions(path: Path, space: LabelSpace) -> Predictions:
    """Read what `write_predictions` wrote; columns of other findings are left out.

    Raises:
        DataError: the file is missing or damaged, a column is missing, or its values are not predictions.
    """
    if not Path(path).exists():
        raise DataError(f"{path}: no such file. Run `trcgl evaluate` on this run first.")
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}). Run `trcgl evaluate` again.") from error
    needed = [*COLUMNS, *(f"{kind}/{finding}" for kind in ("score", "logit", "truth") for finding in space.findings)]
    if missing := [name for name in needed if name not in table.columns]:
        raise DataError(f"{path}: column {missing[0]!r} is missing. Run `trcgl evaluate` again.")

    def matrix(kind: str) -> Float[np.ndarray, "rows findings"]:
        columns = [f"{kind}/{finding}" for finding in space.findings]
        return table.select(pl.col(columns).cast(pl.Float32).fill_null(float("nan"))).to_numpy()

    try:
        return Predictions(
            **{name: table[name].cast(kind) for name, kind in COLUMNS.items() if name != "weight"},
            weight=table["weight"].cast(pl.Float64).to_numpy(),
            score=matrix("score"),
            truth=matrix("truth"),
            space=space,
            logit=matrix("logit"),
            images=table[IMAGES].cast(pl.Int64).to_numpy() if IMAGES in table.columns else None,
        )
    except (DataError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: {error}") from error
