"""Image-to-image synthesis: is a synthetic image a copy of the real image that it started from?

A synthetic image resembles its pixel source by construction. The audit lists a synthetic image as a copy if its
similarity to the pixel source is higher than the similarity of 99 of 100 real training images to another image of the
same patient. The set is flagged if copies are more frequent than among real images (Fisher's exact test, one-sided).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.stats import fisher_exact

from trcgl.audit.registration import pair_similarity
from trcgl.core.randomness import generator

LEVEL = 0.01
LEAST = 20  # fewest real images with another image of the same patient
_QUANTILE = 0.99
_QUERIES = 300  # real images that are compared, one per patient
_OTHERS = 4  # other images of the same patient that each is compared with


@dataclass(frozen=True)
class SourceSimilarity:
    """Similarity of synthetic images to their pixel sources, and as the null that of repeat images of a patient."""

    median: float  # of the synthetic images
    largest: float
    repeat_median: float | None  # of real images to the nearest other image of the same patient; None without repeats
    repeats: int  # number of these real images
    limit: float | None  # similarity above which an image is a copy of its source; None with fewer than 20 repeats
    copies: tuple[int, ...]  # rows of the synthetic images that are copies of their source
    p: float | None  # p-value of Fisher's test; None without a limit
    flagged: bool | None  # whether p < .01; None without a limit


def source_similarity(
    synthetic: UInt8[np.ndarray, "synthetic side side"],
    sources: UInt8[np.ndarray, "synthetic side side"],
    repeats: Float[np.ndarray, " repeats"],
) -> SourceSimilarity:
    """Compare synthetic images with their pixel sources, row by row; `repeats` is from `repeat_similarity`."""
    found = pair_similarity(synthetic, sources)
    middle = float(np.median(repeats)) if len(repeats) else None
    values = (float(np.median(found)), float(found.max()), middle, len(repeats))
    if len(repeats) < LEAST:
        return SourceSimilarity(*values, None, (), None, None)
    limit = float(np.quantile(repeats, _QUANTILE))
    above = [(int((each > limit).sum()), int((each <= limit).sum())) for each in (found, repeats)]
    p = float(fisher_exact(above, alternative="greater").pvalue)
    return SourceSimilarity(*values, limit, tuple(np.flatnonzero(found > limit).tolist()), p, p < LEVEL)


def repeat_similarity(
    images: UInt8[np.ndarray, "store side side"], rows: Int[np.ndarray, " rows"], patients: list[str], seed: int
) -> Float[np.ndarray, " repeats"]:
    """Similarity of real images to the nearest other image of the same patient, for one image each of 300 patients.

    `rows`: the images of the store; `patients`: the patient of each.
    """
    of_patient: dict[str, list[int]] = {}
    for place in generator(seed, "repeat images").permutation(len(rows)).tolist():
        of_patient.setdefault(patients[place], []).append(place)
    several = [places[: _OTHERS + 1] for places in of_patient.values() if len(places) > 1][:_QUERIES]
    if not several:
        return np.empty(0)
    first = np.concatenate([np.repeat(places[0], len(places) - 1) for places in several])
    other = np.concatenate([places[1:] for places in several])
    found = pair_similarity(images[rows[first]], images[rows[other]])
    ends = np.cumsum([0, *(len(places) - 1 for places in several)])
    return np.maximum.reduceat(found, ends[:-1])
