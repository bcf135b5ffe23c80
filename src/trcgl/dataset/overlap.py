"""Whether a dataset has images or patients on which a model was trained."""

import hashlib

import numpy as np
import polars as pl
from jaxtyping import UInt8

from trcgl.core.errors import DataError
from trcgl.dataset.store import Dataset

MADE_OF = {"chestmnist": "nih", "cxr-lt-2026": "padchest"}
"""Source to the source whose images it was made of."""
WITHOUT_PATIENTS = ("chestmnist",)
"""Sources that publish no patients, so that an overlap with the archive they were made of cannot be excluded."""
NUMBERED = " If both tables number other people alike, put a prefix before the patients of one."
"""Advice for two tables with the same identifiers."""
_TITLES = {"nih": "ChestX-ray14", "chestmnist": "ChestMNIST"}


def same_patients(first: Dataset, other: Dataset) -> bool:
    """Whether the same patient_id is the same person in both datasets, because both come from one archive."""
    return len({MADE_OF.get(dataset.info["source"], dataset.info["source"]) for dataset in (first, other)}) == 1


def refuse_overlap(own: Dataset, other: Dataset, split: str) -> None:
    """Refuse to evaluate a model on the data that it was trained on.

    An image is recognized by the digest of its file, and by its stored pixels where both datasets store images of the
    same size, which also finds copies in another format. A patient is recognized by its identifier where both datasets
    come from the same archive; elsewhere the same identifier is another person.

    Raises:
        DataError: an image or a patient was used in training or selection, or one dataset was made of the images of the
            other's archive and names no patients.
    """
    sources = (own.info["source"], other.info["source"])
    if sources[0] != sources[1] and same_patients(own, other) and set(sources) & set(WITHOUT_PATIENTS):
        archive = MADE_OF.get(sources[0], sources[0])
        copy = next(source for source in sources if source != archive)
        raise DataError(
            f"{other.folder}: {_TITLES[copy]} consists of images of {_TITLES[archive]} and names no patients, so "
            "patients of the training data cannot be excluded. Evaluate on another archive."
        )
    seen = own.manifest.filter(own.manifest["split"].is_in(["train", "val"]))
    evaluated = other.manifest.filter(other.manifest["split"] == split)
    names = ["sha256", "patient_id"] if same_patients(own, other) else ["sha256"]
    for name in names:
        both = evaluated.filter(evaluated[name].is_in(seen[name].drop_nulls().unique().implode()))
        _refuse(both, other, split, "image" if name == "sha256" else "patient")
    if own.images is not None and other.images is not None and own.images.shape[1:] == other.images.shape[1:]:
        known = set(_digests(own.images, seen)) - {None}
        same = [digest in known for digest in _digests(other.images, evaluated)]
        _refuse(evaluated.filter(pl.Series(same, dtype=pl.Boolean)), other, split, "picture")


def refuse_other_splits(first: Dataset, other: Dataset) -> None:
    """Refuse to combine models of two datasets if the second trains on patients whom the first validates or tests on.

    Raises:
        DataError: the datasets come from the same archive, and a patient or an image of val or test of `first` is in
            train of `other`.
    """
    if not same_patients(first, other):
        return
    held_out = first.manifest.filter(first.manifest["split"].is_in(["val", "test"]))
    train = other.manifest.filter(other.manifest["split"] == "train")
    for name, what in (("patient_id", "patient"), ("sha256", "file")):
        both = held_out.filter(held_out[name].is_in(train[name].drop_nulls().unique().implode()))
        if both.height:
            raise DataError(
                f"the {what} of {both['image_id'][0]!r} and {both.height - 1} more rows are in {both['split'][0]} of "
                f"{first.folder}, but in train of {other.folder}. Runs of one ensemble need the same splits: train all "
                "of them on one dataset."
            )


def _digests(images: UInt8[np.ndarray, "images height width"], rows: pl.DataFrame) -> list[bytes | None]:
    """Digest of the stored pixels of every row; None for a blank picture, which is like any other blank one."""
    pictures = (images[row] for row in rows["row"])
    return [hashlib.sha256(picture.tobytes()).digest() if np.ptp(picture) else None for picture in pictures]


def _refuse(both: pl.DataFrame, other: Dataset, split: str, what: str) -> None:
    if both.height:
        raise DataError(
            f"{other.folder}: the {what} of {both['image_id'][0]!r} and {both.height - 1} more rows of {split} were "
            "used in training or selection. Evaluate on patients that the model has not seen."
            + (NUMBERED if what == "patient" and other.info["source"] == "table" else "")
        )
