"""Features of images together with whose they are, so that patients can be drawn whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trcgl.core.errors import DataError


@dataclass(frozen=True)
class PatientImages:
    """Feature vectors and their patients.

    Args:
        features: one row an image.
        owner: number of each image's patient, from 0 without a gap.
        names: of the patients.
    """

    features: Float[np.ndarray, "images features"]
    owner: Int[np.ndarray, " images"]
    names: np.ndarray

    @classmethod
    def of(
        cls, features: Float[np.ndarray, "images features"], patients: Sequence[str] | np.ndarray
    ) -> "PatientImages":
        """Number the patients.

        Raises:
            DataError: there is not one patient an image.
        """
        if len(features) != len(patients):
            raise DataError(f"{len(features)} images, but {len(patients)} patients. Give one patient an image.")
        names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
        return cls(features, owner, names)

    def choose(self, images: int, draw: np.random.Generator) -> Int[np.ndarray, " patients"]:
        """Numbers of random patients who have so many images together, or somewhat fewer: patients are taken whole."""
        counts = np.bincount(self.owner, minlength=len(self.names))
        chosen, left = [], images
        for patient in draw.permutation(len(counts)):
            if counts[patient] <= left:
                chosen.append(patient)
                left -= counts[patient]
        return np.array(sorted(chosen), dtype=np.int64)

    def sample(self, images: int, draw: np.random.Generator) -> "tuple[PatientImages, PatientImages]":
        """Exactly so many images, of whole patients but for the last one; and the images of the patients left over."""
        rank = draw.permutation(len(self.names))[self.owner]
        rows = np.argsort(rank, kind="stable")
        left_over = rank > rank[rows[images - 1]] if images else np.ones(len(rank), bool)
        return self._rows(rows[:images]), self._rows(np.flatnonzero(left_over))

    def at_most(self, images: int, draw: np.random.Generator) -> "PatientImages":
        """These, or a sample where there are more."""
        return self if len(self.features) <= images else self.sample(images, draw)[0]

    def together(self, other: "PatientImages") -> "PatientImages":
        """The images of both."""
        names = np.concatenate([self.names[self.owner], other.names[other.owner]])
        return PatientImages.of(np.concatenate([self.features, other.features]), names)

    def _rows(self, rows: Int[np.ndarray, " rows"]) -> "PatientImages":
        return PatientImages.of(self.features[rows], self.names[self.owner[rows]])


def apart(held_out: PatientImages, *others: PatientImages) -> None:
    """Refuse a held-out patient among the others.

    Raises:
        DataError: there is one; the message does not name it.
    """
    for other in others:
        if shared := len(np.intersect1d(held_out.names, other.names)):
            raise DataError(
                f"{shared} held-out patients were also trained on or drawn from: distances to them prove nothing. "
                "Take held-out images of other patients."
            )
