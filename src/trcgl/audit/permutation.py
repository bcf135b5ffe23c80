"""Maximum mean discrepancy of two groups of patients: its value, jackknife interval and permutation test.

Images of a patient are not independent, so the unit is the patient. Every patient counts once, however many images
there are, and changes sides or is left out with all images. Pairs of images of the same patient, which are more alike
than pairs of different patients, are excluded from the mean over pairs; otherwise several images per patient would look
like a distance. With one image per patient the value is the ordinary unbiased estimate.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import t

LEVEL = 0.95
_CHUNK = 256  # permutations computed at once


@dataclass(frozen=True)
class TwoGroups:
    """Two groups of patients."""

    # mean of the kernel over the pairs of every two patients' images; the diagonal is ignored
    kernel: Float[np.ndarray, "patients patients"]
    first: Bool[np.ndarray, " patients"]  # patients of the first group; all others are the second

    def value(self) -> float:
        """Mean kernel within the first group and that within the second, minus twice that across."""
        return float(self._values(self.first[None])[0])

    def interval(self) -> tuple[float, float]:
        """95 % interval of the value: jackknife of two samples, one patient left out at a time (Arvesen 1969).

        Student's t has as many degrees of freedom as the smaller group has patients, minus 1. If the distributions
        are equal, the interval is too wide: the value then varies less than the jackknife estimates.
        """
        kernel = self._between_patients()
        variance, value = 0.0, self.value()
        for own in (self.first, ~self.first):
            size, others = int(own.sum()), int((~own).sum())
            to_own, to_others = kernel[np.ix_(own, own)].sum(1), kernel[np.ix_(own, ~own)].sum(1)
            within = (to_own.sum() - 2 * to_own) / ((size - 1) * (size - 2))
            across = (to_others.sum() - to_others) / ((size - 1) * others)
            variance += (size - 1) * float((within - 2 * across).var())  # the other group's mean stays the same
        freedom = min(self.first.sum(), (~self.first).sum()) - 1
        reach = float(t.isf((1 - LEVEL) / 2, freedom)) * variance**0.5
        return value - reach, value + reach

    def permuted(self, count: int, rng: np.random.Generator) -> Float[np.ndarray, " count"]:
        """Values after patients changed sides at random, the same share of either group.

        A patient keeps the weight of its own group. The share exchanged follows the hypergeometric distribution for a
        larger group divided into as many parts as the smaller has patients. Groups of equal size are thus permuted as
        usual. If the groups differ in patients or in images per patient, single patients are not exchangeable; this
        scheme then gives the right variance of the value, and the usual one does not.
        """
        sizes = int(self.first.sum()), int((~self.first).sum())
        parts = min(sizes)
        values = []
        for start in range(0, count, _CHUNK):
            chunk = min(_CHUNK, count - start)
            share = rng.hypergeometric(parts, parts, parts, chunk)[:, None] / parts
            in_first = np.empty((chunk, len(self.first)), bool)
            in_first[:, self.first] = _ranks(rng, chunk, sizes[0]) < np.rint(sizes[0] * share)
            in_first[:, ~self.first] = _ranks(rng, chunk, sizes[1]) < np.rint(sizes[1] * (1 - share))
            values.append(self._values(in_first))
        return np.concatenate(values)

    def _values(self, in_first: Bool[np.ndarray, "divisions patients"]) -> Float[np.ndarray, " divisions"]:
        kernel = self._between_patients()
        weight = np.where(self.first, 1 / self.first.sum(), 1 / (~self.first).sum())
        first, second = weight * in_first, weight * ~in_first
        to_first = first @ kernel
        to_second = weight @ kernel - to_first
        within = (_dot(first, to_first) / _pairs(first)) + (_dot(second, to_second) / _pairs(second))
        return within - 2 * _dot(first, to_second) / (first.sum(1) * second.sum(1))

    def _between_patients(self) -> Float[np.ndarray, "patients patients"]:
        return self.kernel * ~np.eye(len(self.kernel), dtype=bool)


def _ranks(rng: np.random.Generator, rows: int, columns: int) -> Int[np.ndarray, "rows columns"]:
    """A random order within every row."""
    return rng.permuted(np.tile(np.arange(columns), (rows, 1)), axis=1)


def _dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", x, y)


def _pairs(weight: np.ndarray) -> np.ndarray:
    return weight.sum(1) ** 2 - np.square(weight).sum(1)
