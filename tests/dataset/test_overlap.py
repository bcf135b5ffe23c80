import dataclasses

import numpy as np
import polars as pl
import pytest

from tests.dataset.small_dataset import write_dataset
from trcgl.core.errors import DataError
from trcgl.dataset.overlap import refuse_overlap
from trcgl.dataset.store import open_dataset


@pytest.fixture
def own(tmp_path):
    return of(open_dataset(write_dataset(tmp_path / "own")), "nih")


@pytest.fixture
def other(tmp_path):
    return of(open_dataset(write_dataset(tmp_path / "other", seed=1)), "padchest")


def of(dataset, source):
    return dataclasses.replace(dataset, info={**dataset.info, "source": source})


def test_another_archive_is_accepted(own, other):
    refuse_overlap(own, other, "test")
    refuse_overlap(own, of(other, "nih"), "test")


@pytest.mark.parametrize(("one", "two"), [("nih", "chestmnist"), ("chestmnist", "nih")])
def test_a_copy_of_the_archive_without_patients_is_refused(own, other, one, two):
    with pytest.raises(DataError, match="ChestMNIST consists of images of ChestX-ray14 and names no patients"):
        refuse_overlap(of(own, one), of(other, two), "test")


def test_a_file_seen_in_training_is_refused(own, other):
    rows = other.manifest.with_columns(sha256=pl.lit(own.manifest["sha256"][0]))
    with pytest.raises(DataError, match=r"the image of '1-68\.png' and 23 more rows of test were used"):
        refuse_overlap(own, dataclasses.replace(other, manifest=rows), "test")


def test_a_patient_seen_in_training_is_refused_within_an_archive(own, other):
    rows = other.manifest.with_columns(patient_id=pl.lit(own.manifest["patient_id"][0]))
    known = dataclasses.replace(other, manifest=rows)
    refuse_overlap(own, known, "test")
    with pytest.raises(DataError, match="the patient of"):
        refuse_overlap(own, of(known, "nih"), "test")
    with pytest.raises(DataError, match="put a prefix before the patients"):
        refuse_overlap(of(own, "table"), of(known, "table"), "test")


def test_a_picture_seen_in_training_is_refused_in_any_file_format(own, other):
    images = np.array(other.images)
    images[other.split("test")["row"][3]] = own.images[own.split("train")["row"][5]]
    with pytest.raises(DataError, match=r"the picture of .* and 0 more rows of test"):
        refuse_overlap(own, dataclasses.replace(other, images=images), "test")
    images[:, :, :] = 0  # blank pictures are alike, but no copies
    refuse_overlap(own, dataclasses.replace(other, images=images), "test")


def test_pictures_of_the_own_test_split_were_not_seen(own, other):
    images = np.array(other.images)
    images[other.split("test")["row"][3]] = own.images[own.split("test")["row"][5]]
    refuse_overlap(own, dataclasses.replace(other, images=images), "test")


def test_a_patient_seen_in_training_is_refused_in_a_benchmark_made_of_the_archive(own, other):
    rows = other.manifest.with_columns(patient_id=pl.lit(own.manifest["patient_id"][0]))
    with pytest.raises(DataError, match="the patient of"):
        refuse_overlap(of(own, "padchest"), of(dataclasses.replace(other, manifest=rows), "cxr-lt-2026"), "test")
