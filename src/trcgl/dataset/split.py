"""Divide patients into train, val and test so that rare findings reach all three.

Iterative stratification (Sechidis et al., ECML PKDD 2011) with patients as the unit: the patients with the rarest
finding are assigned first, each to the split that is furthest below its share of that finding.
"""

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from trcgl.core.errors import DataError
from trcgl.core.randomness import generator
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SPLITS, label_array

RARE = 20
"""A finding with fewer expected positives in the smallest split is rare: its patients with many images go to the
largest split, so that val and test have many patients rather than many images of few. Patients with other findings are
assigned in random order by relative need, so that no split collects the patients with many images."""

# Where a finding has fewer patients than splits: without train nothing is learned, without test nothing is known.
_ORDER = (SPLITS.index("train"), SPLITS.index("test"), SPLITS.index("val"))


def split_patients(
    rows: pl.DataFrame, space: LabelSpace, *, fractions: tuple[float, float, float] = (0.7, 0.1, 0.2), seed: int = 0
) -> pl.Series:
    """The split of every row, `train`, `val` or `test`; all rows of a patient are in the same split.

    A row with a given `split` keeps it, and the other rows of the patient follow. The remaining patients are divided
    among the splits that no row was given (all three if none or all were given), in proportion to their fractions.
    Every finding with at least three patients gets positives in all three splits if a greedy search finds a way.

    `rows`: patient_id, optionally `split` (null: to be assigned), and one column per finding. `fractions`: shares of
    train, val and test; they sum to 1.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise DataError(f"--fractions {fractions}: shares of train, val and test must be positive or 0 and sum to 1.")
    patients, of_row = np.unique(rows["patient_id"].to_numpy(), return_inverse=True)
    given = _given(rows, patients, of_row)
    named = set(given[given >= 0])
    free = [split for split in range(3) if split not in named] or list(range(3))
    share = np.array([fractions[split] if split in free else 0.0 for split in range(3)])
    positives = np.zeros((len(patients), len(space.findings)), np.int64)
    np.add.at(positives, of_row, (label_array(rows, space) == 1).astype(np.int64))
    images = np.bincount(of_row, minlength=len(patients))
    split = given.copy()
    if share.sum() and (split < 0).any():
        # A random order, so that ties are broken by chance and not by the alphabet.
        order = generator(seed, "split").permutation(len(patients))
        loose = split < 0
        _deal(split, positives, images, share / share.sum(), order)
        _repair(split, positives, loose, np.flatnonzero(share))
    if (split < 0).any():
        raise DataError(f"--fractions {fractions} leave no split for {int((split < 0).sum())} patients.")
    return pl.Series("split", np.array(SPLITS)[split[of_row]], pl.String)


def _given(rows: pl.DataFrame, patients: np.ndarray, of_row: np.ndarray) -> Int[np.ndarray, " patients"]:
    given = np.full(len(patients), -1)
    if "split" not in rows.columns:
        return given
    for patient, name in zip(of_row, rows["split"], strict=True):
        if name is None:
            continue
        split = SPLITS.index(name)
        if given[patient] not in (-1, split):
            raise DataError(
                f"patient {patients[patient]!r} is given to both {SPLITS[given[patient]]} and {name}. "
                "Correct the archive's lists: one patient, one split."
            )
        given[patient] = split
    return given


def _deal(
    split: Int[np.ndarray, " patients"],
    positives: Int[np.ndarray, "patients findings"],
    images: Int[np.ndarray, " patients"],
    share: Float[np.ndarray, " 3"],
    order: Int[np.ndarray, " patients"],
) -> None:
    """Give every patient with split -1 a split, rarest finding first; changes `split` in place."""
    loose = split < 0
    allowed = share > 0
    wanted = np.outer(share, positives[loose].sum(0)).astype(float)  # (3, C) positives still missing
    due = share * images[loose].sum()  # (3,) images still missing
    shuffled = order[loose[order]]
    scale = np.where(allowed, share, 1.0)

    def place(patient: int, where: int) -> None:
        split[patient] = where
        wanted[where] -= positives[patient]
        due[where] -= images[patient]

    for finding in np.argsort((positives > 0).sum(0), kind="stable"):
        queue = shuffled[(split[shuffled] < 0) & (positives[shuffled, finding] > 0)]
        rare = wanted[allowed, finding].min() < RARE
        if rare:
            queue = queue[np.argsort(-positives[queue, finding], kind="stable")]
        holders = np.bincount(split[(positives[:, finding] > 0) & loose & (split >= 0)], minlength=3)
        for place_in_queue, patient in enumerate(queue):
            empty = [target for target in _ORDER if allowed[target] and not holders[target]]
            if len(queue) - place_in_queue <= len(empty):
                where = empty[0]
            else:
                need = np.where(allowed, wanted[:, finding] / (1.0 if rare else scale), -np.inf)
                where = int(max(np.flatnonzero(need >= need.max() - 1e-9), key=lambda place: due[place] / scale[place]))
            place(int(patient), int(where))
            holders[where] += 1
    for patient in shuffled[split[shuffled] < 0]:
        place(int(patient), int(np.argmax(np.where(allowed, due / scale, -np.inf))))


def _repair(
    split: Int[np.ndarray, " patients"],
    positives: Int[np.ndarray, "patients findings"],
    loose: np.ndarray,
    splits: Int[np.ndarray, " splits"],
) -> None:
    """Move single patients so that every finding, where possible, reaches every split; changes `split` in place."""
    has = positives > 0
    holders = np.stack([has[split == place].sum(0) for place in range(3)])  # (3, C) patients
    for finding in np.argsort(has.sum(0), kind="stable"):
        for where in splits:
            if holders[where, finding]:
                continue
            for patient in np.flatnonzero(loose & has[:, finding]):
                left = holders[split[patient]] - has[patient]
                if (left[has[patient]] > 0).all():
                    holders[split[patient]] -= has[patient]
                    holders[where] += has[patient]
                    split[patient] = where
                    break
