"""Counts of findings and of pairs of findings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import label_array


@dataclass(frozen=True)
class Cooccurrence:
    """Counts over the rows of a manifest; an unknown label is not counted as absent.

    Args:
        joint: n_ij, rows with i and j present; the diagonal is the number of positives.
    """

    joint: Int[np.ndarray, "findings findings"]
    known: Int[np.ndarray, "findings findings"]  # rows with i present and j known
    positives: Int[np.ndarray, " findings"]
    labeled: Int[np.ndarray, " findings"]  # rows with i known
    rows: int
    rows_with_any: int

    def conditional(self, smoothing: float = 0.0) -> Float[np.ndarray, "findings findings"]:
        """P(j | i) = n_ij / (n_i + `smoothing`) in row i, column j, with n_i over the rows in which j is known.

        It is 0 where n_i is 0.
        """
        return np.divide(self.joint, self.known + smoothing, out=np.zeros(self.joint.shape), where=self.known > 0)

    def prevalence(self) -> Float[np.ndarray, " findings"]:
        """Positives of each finding divided by the rows with any finding; 0 without such rows."""
        return self.positives / max(self.rows_with_any, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value; `from_dict` is the inverse."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Cooccurrence":
        """The inverse of `to_dict`."""
        arrays = {name: np.asarray(value[name], np.int64) for name in ("joint", "known", "positives", "labeled")}
        return cls(**arrays, rows=value["rows"], rows_with_any=value["rows_with_any"])


def counts(manifest: pl.DataFrame, space: LabelSpace) -> Cooccurrence:
    """Count the given rows of a manifest."""
    return count_labels(label_array(manifest, space))


def count_labels(labels: Float[np.ndarray, "rows findings"]) -> Cooccurrence:
    """Count labels: 1 present, 0 absent, NaN unknown."""
    # Products of 0/1 matrices are exact in float32 up to 2^24 rows and many times faster than integer ones.
    present = (labels == 1).astype(np.float32)
    known = (~np.isnan(labels)).astype(np.float32)
    return Cooccurrence(
        joint=np.rint(present.T @ present).astype(np.int64),
        known=np.rint(present.T @ known).astype(np.int64),
        positives=present.sum(0, dtype=np.int64),
        labeled=known.sum(0, dtype=np.int64),
        rows=len(labels),
        rows_with_any=int(present.any(1).sum()),
    )
