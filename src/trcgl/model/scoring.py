"""Logits of stored images, resized to the size of the model as in training."""

import numpy as np
from jaxtyping import Float, UInt8

from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.dataset.store import Dataset
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
