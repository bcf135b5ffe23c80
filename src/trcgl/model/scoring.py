"""Logits and scores of stored images, resized to the size of the model as in training."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.dataset.store import Dataset
from trcgl.model.ensemble import scores_of
from trcgl.model.folder import LoadedModel

BATCH = 64


def check_fit(model: LoadedModel, dataset: Dataset) -> None:
    """Check that the images of a dataset were made square in the same way as those of the model.

    Raises:
        DataError: one was letterboxed and the other squashed.
    """
    if dataset.info["fit"] != model.fit:
        raise DataError(
            f"{dataset.folder} was prepared with --fit {dataset.info['fit']}, the model with {model.fit}. "
            f"Prepare it with --fit {model.fit}."
        )


def score_images(
    model: LoadedModel, images: UInt8[np.ndarray, "store height width"], rows: np.ndarray | None = None
) -> Float[np.ndarray, "rows findings"]:
    """Logits of stored images of any size, or of the given rows of them."""
    rows = np.arange(len(images)) if rows is None else rows
    starts = range(0, len(rows), BATCH)
    parts = (model.logits(model.resized(images[rows[start : start + BATCH]])) for start in starts)
    nothing = np.empty((0, len(model.space.findings)), np.float32)
    return np.concatenate([nothing, *track(parts, total=len(starts), what="scoring")])


def score_views(
    model: LoadedModel,
    images: UInt8[np.ndarray, "store height width"],
    rows: np.ndarray,
    findings: Sequence[str],
    views: Sequence[str],
) -> Float[np.ndarray, "rows findings"]:
    """Calibrated scores of rows of stored images, averaged over copies, as `Ensemble.score` computes them."""
    starts = range(0, len(rows), BATCH)
    parts = (
        scores_of(model, model.resized(images[rows[start : start + BATCH]]), findings, views, BATCH) for start in starts
    )
    nothing = np.empty((0, len(findings)), np.float64)
    return np.concatenate([nothing, *track(parts, total=len(starts), what="scoring")])
