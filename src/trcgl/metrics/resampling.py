"""Bootstrap replicates of one finding without sorting again: weighted sums over patients.

A replicate counts an image as often as its patient was resampled. The order of the scores never changes, so the rows of
a finding are sorted once and divided into segments between the scores of its positives. A replicate needs only the
weights of these segments: one sparse product, segments × patients by patients × replicates.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

RowSums = Float[np.ndarray, "sums rows"]


@dataclass(frozen=True, eq=False)
class FindingRows:
    """The rows of one finding whose label is known."""

    positive: Float[np.ndarray, " rows"]  # 1 present, 0 absent
    score: Float[np.ndarray, " rows"]  # higher means more likely present
    weight: Float[np.ndarray, " rows"]
    owner: Int[np.ndarray, " rows"]  # number of the patient of each row
    patients: int  # number of all patients
    threshold: float | None = None  # a score of at least this calls the finding present
    _sums: dict[Callable[..., object], sparse.csr_matrix] = field(default_factory=dict)

    @cached_property
    def segments(self) -> tuple[sparse.csr_matrix, int, bool]:
        """The matrix segments × patients, the number K of distinct scores of positives, and whether negatives tie.

        The first K segments are the positives with each score, highest first. The next K + 1 are the negatives between
        these scores; a negative with the score of a positive is in the segment that ends there. If there are such
        negatives, K more segments hold them alone.
        """
        present = self.positive == 1
        cuts = np.unique(-self.score[present])
        place = np.searchsorted(cuts, -self.score, side="left")
        tied = ~present & np.isin(-self.score, cuts)
        segment = np.concatenate([np.where(present, place, len(cuts) + place), 2 * len(cuts) + 1 + place[tied]])
        owner, weight = np.append(self.owner, self.owner[tied]), np.append(self.weight, self.weight[tied])
        rows = (3 if tied.any() else 2) * len(cuts) + 1
        # Counts of resampled images are exact in float32, which halves the traffic; other weights are not.
        kind = np.float32 if bool((weight == 1).all()) else np.float64
        matrix = sparse.csr_matrix((weight.astype(kind), (segment, owner)), (rows, self.patients))
        return matrix, len(cuts), bool(tied.any())

    def patient_sums(self, values: Callable[["FindingRows"], RowSums]) -> sparse.csr_matrix:
        """Weighted sums over the rows of each patient (sums × patients), computed once for each function."""
        if values not in self._sums:
            every = values(self)
            place, row = np.nonzero(every)
            self._sums[values] = sparse.csr_matrix(
                (every[place, row] * self.weight[row], (place, self.owner[row])), (len(every), self.patients)
            )
        return self._sums[values]


class Ranking(NamedTuple):
    """Weights at the K distinct scores of positives, from the highest score, in each replicate."""

    positives: Float[np.ndarray, "replicates cuts"]  # with exactly that score
    hits: Float[np.ndarray, "replicates cuts"]  # positives with at least that score
    false: Float[np.ndarray, "replicates cuts"]  # negatives with at least that score
    tied: Float[np.ndarray, "replicates cuts"] | float  # negatives with exactly that score; 0 where there are none
    negatives: Float[np.ndarray, "replicates 1"]  # all negatives


@dataclass(frozen=True, eq=False)
class Resampled:
    """One finding in a number of replicates."""

    rows: FindingRows
    counts: Float[np.ndarray, "patients replicates"]  # how often each patient occurs in each replicate

    @cached_property
    def ranking(self) -> Ranking:
        """Weights for rank-based metrics, computed once for all of them."""
        segments, cuts, ties = self.rows.segments
        # Replicates become rows: sums along a contiguous axis are several times faster.
        total = (segments @ self.counts.astype(segments.dtype, copy=False)).T.astype(np.float64, order="C")
        if not cuts:
            nothing = np.zeros((len(total), 1))
            return Ranking(nothing, nothing, nothing, 0.0, total)
        positives = total[:, :cuts]
        false = np.cumsum(total[:, cuts : 2 * cuts + 1], axis=1)
        tied = total[:, 2 * cuts + 1 :] if ties else 0.0
        return Ranking(positives, np.cumsum(positives, axis=1), false[:, :-1], tied, false[:, -1:])

    def sums(self, values: Callable[[FindingRows], RowSums]) -> Float[np.ndarray, "sums replicates"]:
        """Weighted sums of values of the rows."""
        return self.rows.patient_sums(values) @ self.counts.astype(np.float64, copy=False)
