"""Two halves of the training patients, so that the classifiers for screening and for the audit share no patient."""

from collections.abc import Collection
from typing import Literal

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.manifest import of_views, taking_part
from trcgl.dataset.split import split_patients
from trcgl.dataset.store import Dataset

Half = Literal["none", "first", "second"]  # values of `train.half`; `none` means all training patients
HALVES: tuple[Half, ...] = ("none", "first", "second")


def half(dataset: Dataset, which: Half, *, with_none: bool = False, views: Collection[str] = ()) -> pl.DataFrame:
    """The training rows of one half of the patients, in the order of the manifest; of some views if any are named.

    Patients are assigned rarest finding first, as in `prepare`, so that each half has about half of the positives of
    every finding. The halves depend on the dataset only: not on a seed, a recipe, `with_none` or `views`.

    Raises:
        DataError: the half has no rows, or no row of these views.
    """
    rows = _rows(dataset, which, with_none)
    if not rows.height:
        raise DataError(f"{dataset.folder}: the {which} half of the training patients has no rows. Train on all.")
    return of_views(rows, views, f"{dataset.folder}: train")


def half_of(dataset: Dataset, training_patient_digest: str) -> Half | None:
    """The half that a model was trained on, by the digest in its `model.json`; None: on other patients."""
    for which in HALVES:
        for with_none in (False, True):
            patients = _rows(dataset, which, with_none)["patient_id"].unique().to_list()
            if patients and storage.digest(patients) == training_patient_digest:
                return which
    return None


def _rows(dataset: Dataset, which: Half, with_none: bool) -> pl.DataFrame:
    if which == "none":
        return dataset.split("train", with_none=with_none)
    everyone = dataset.split("train", with_none=True)
    # The halves are the train and test splits of a division without val.
    place = split_patients(everyone.drop("split"), dataset.space, fractions=(0.5, 0.0, 0.5))
    return taking_part(everyone.filter(place == {"first": "train", "second": "test"}[which]), with_none=with_none)
