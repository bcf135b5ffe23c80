"""Feature vectors together with their patients, so that sampling takes whole patients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from trcgl.core.errors import DataError


@dataclass(frozen=True)
class PatientImages:
    """Feature vectors and their patients."""

    features: Float[np.ndarray, "images features"]  # one row per image
    owner: Int[np.ndarray, " images"]  # index into `names` of each image's patient
    names: np.ndarray  # patient identifiers, sorted

    @classmethod
    def of(
        cls, features: Float[np.ndarray, "images features"], patients: Sequence[str] | np.ndarray
    ) -> "PatientImages":
        """Index the patients of some images."""
        if len(features) != len(patients):
            raise DataError(f"{len(features)} images, but {len(patients)} patients. Give one patient per image.")
        names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
        return cls(features, owner, names)

    @property
    def patients(self) -> np.ndarray:
        """Patient identifier of each image."""
        return self.names[self.owner]

    def choose(self, images: int, rng: np.random.Generator) -> Int[np.ndarray, " patients"]:
        """Indices of random whole patients who together have at most `images` images."""
        counts = np.bincount(self.owner, minlength=len(self.names))
        chosen, left = [], images
        for patient in rng.permutation(len(counts)):
            if counts[patient] <= left:
                chosen.append(patient)
                left -= counts[patient]
        return np.array(sorted(chosen), dtype=np.int64)

    def sample(self, images: int, rng: np.random.Generator) -> "tuple[PatientImages, PatientImages]":
        """Exactly `images` images of whole patients, except for the last one; and the images of all other patients."""
        rank = rng.permutation(len(self.names))[self.owner]
        rows = np.argsort(rank, kind="stable")
        left_over = rank > rank[rows[images - 1]] if images else np.ones(len(rank), bool)
        return self.of_rows(rows[:images]), self.of_rows(np.flatnonzero(left_over))

    def at_most(self, images: int, rng: np.random.Generator) -> "PatientImages":
        """All images, or a sample if there are more than `images`."""
        return self if len(self.features) <= images else self.sample(images, rng)[0]

    def together(self, other: "PatientImages") -> "PatientImages":
        """The images of this and another set."""
        patients = np.concatenate([self.patients, other.patients])
        return PatientImages.of(np.concatenate([self.features, other.features]), patients)

    def of_rows(self, rows: Int[np.ndarray, " rows"]) -> "PatientImages":
        """The images of the given rows."""
        return PatientImages.of(self.features[rows], self.patients[rows])


class Sides(NamedTuple):
    """The three sets that a check compares: synthetic against held-out, and as the null train against held-out."""

    synthetic: PatientImages  # synthetic images and their source patients
    held_out: PatientImages  # real images of patients who took no part in training
    train: PatientImages  # real training images


def check_separation(sides: Sides) -> None:
    """Refuse held-out patients who are also training or source patients; the message does not name them."""
    for other in (sides.synthetic, sides.train):
        if shared := len(np.intersect1d(sides.held_out.names, other.names)):
            raise DataError(
                f"{shared} held-out patients are also training or source patients, so distances to their images prove "
                "nothing. Give held-out images of other patients."
            )
