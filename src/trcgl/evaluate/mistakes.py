"""The most confident mistakes of a split: false alarms and misses, with their images."""

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import UInt8
from scipy.special import logit

from trcgl.core.html import png_uri
from trcgl.dataset.store import Dataset
from trcgl.evaluate.predictions import Predictions

SIDE = 224
"""Longest side of an image on the page, in pixels."""
PER_FINDING = 2


@dataclass(frozen=True)
class Mistake:
    """An image and the finding that the model got most wrong on it: called although absent, or missed."""

    kind: Literal["false alarm", "miss"]
    finding: str
    image_id: str
    score: float
    threshold: float
    present: tuple[str, ...]


def most_confident(predictions: Predictions, evaluation: dict[str, Any], most: int = 12) -> list[Mistake]:
    """The mistakes whose scores are farthest beyond the threshold on the logit scale, false alarms first.

    At most two per finding and kind, `most` of each kind, and no image twice, so that no single finding fills the page.
    """
    space = predictions.space
    cuts = np.array([evaluation["findings"][finding]["threshold"] for finding in space.findings])
    scored = np.isin(space.findings, space.scored)
    beyond = _logit(predictions.score) - _logit(cuts)
    chosen, seen = [], set()
    kinds: tuple[tuple[Literal["false alarm", "miss"], float, float], ...] = (("false alarm", 0, 1), ("miss", 1, -1))
    for kind, truth, sign in kinds:
        wrong = np.where((predictions.truth == truth) & scored & (sign * beyond > 0), sign * beyond, -np.inf)
        count, of_finding = 0, np.zeros(len(cuts), int)
        for place in np.argsort(-wrong, axis=None, kind="stable"):
            row, column = divmod(int(place), len(cuts))
            if count == most or wrong[row, column] == -np.inf:
                break
            if row in seen or of_finding[column] == PER_FINDING:
                continue
            seen.add(row)
            of_finding[column] += 1
            count += 1
            present = tuple(np.array(space.findings)[predictions.truth[row] == 1].tolist())
            score, cut = float(predictions.score[row, column]), float(cuts[column])
            chosen.append(Mistake(kind, space.findings[column], predictions.image_id[row], score, cut, present))
    return chosen


def pictures(mistakes: list[Mistake], dataset: Dataset) -> dict[str, str]:
    """Data URI of each image by image id; images that are missing from the dataset are left out."""
    if dataset.images is None:
        return {}
    wanted = [mistake.image_id for mistake in mistakes]
    held = dataset.manifest.filter(pl.col("image_id").is_in(wanted), pl.col("row").is_not_null())
    rows = dict(held.select("image_id", "row").iter_rows())
    return {image: _picture(np.asarray(dataset.images[row])) for image, row in rows.items()}


def _picture(pixels: UInt8[np.ndarray, "height width"]) -> str:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return png_uri(stream.getvalue())


def _logit(probability: np.ndarray) -> np.ndarray:
    return logit(np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7))
