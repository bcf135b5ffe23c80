"""Fusion of the scores of a study's images into the scores of the study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

FusionName = Literal["none", "mean", "max", "learned"]


@dataclass(frozen=True)
class Fusion:
    """How the images of a study are fused: for each finding, a · maximum + (1 - a) · mean of their probabilities.

    `none` scores images, and studies by their mean. a is 0 for `mean` and 1 for `max`, and fitted on val for `learned`.
    A study of one image has the scores of the image.
    """

    name: FusionName = "none"
    learned: Mapping[str, float] | None = None
    """Finding to its weight a of `learned`."""

    def weights(self, findings: Sequence[str]) -> Float[np.ndarray, " findings"]:
        """The weight a of the maximum for each finding; 0 for `none`."""
        if self.learned is not None:
            return np.array([self.learned[finding] for finding in findings])
        return np.full(len(findings), float(self.name == "max"))


def fuse(
    scores: Float[np.ndarray, "images findings"],
    studies: Sequence[Sequence[int]],
    weights: Float[np.ndarray, " findings"],
) -> Float[np.ndarray, "studies findings"]:
    """Scores (float32) of studies, each given by the rows of its images; `weights` are those of `Fusion`.

    Images without scores (NaN) do not take part; a study of such images alone has no scores.
    """
    known = ~np.isnan(scores).any(axis=1)
    scored = [[row for row in rows if known[row]] for rows in studies]
    counts = np.array([len(rows) for rows in scored], np.int64)
    fused = np.full((len(studies), scores.shape[1]), np.nan, np.float32)
    if counts.any():
        some, images = counts > 0, scores[[row for rows in scored for row in rows]].astype(np.float64)
        starts = np.cumsum(counts[some]) - counts[some]
        mean = np.add.reduceat(images, starts) / counts[some][:, None]
        fused[some] = (1 - weights) * mean + weights * np.maximum.reduceat(images, starts)
    return fused
