"""Two halves of train: no patient in both, each with about half of every finding, the same for everybody."""

import polars as pl
import pytest

from tests.dataset.small_dataset import SPACE, write_dataset
from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.patient_halves import half, half_of
from trcgl.dataset.store import open_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    opened = open_dataset(write_dataset(tmp_path_factory.mktemp("data") / "small", train=400))
    aside = opened.manifest.with_columns(
        set_aside=pl.when(pl.col("row") % 7 == 0).then(pl.lit("none of the findings")).otherwise(None)
    )
    return type(opened)(**{**vars(opened), "manifest": aside})


def patients(dataset, which, **settings):
    return set(half(dataset, which, **settings)["patient_id"])


@pytest.mark.parametrize("with_none", [False, True])
def test_the_halves_share_no_patient_and_are_all_of_train(dataset, with_none):
    first, second = (half(dataset, which, with_none=with_none) for which in ("first", "second"))
    assert not set(first["patient_id"]) & set(second["patient_id"])
    whole = dataset.split("train", with_none=with_none)
    assert half(dataset, "none", with_none=with_none).equals(whole)
    assert pl.concat([first, second]).sort("row").equals(whole.sort("row"))
    assert first.height == pytest.approx(whole.height / 2, rel=0.05)


def test_each_half_has_half_of_the_positives_of_each_finding(dataset):
    for finding in SPACE.findings:
        first, second = (half(dataset, which, with_none=True)[finding].sum() for which in ("first", "second"))
        assert abs(first - second) <= 3


def test_a_patient_is_in_the_same_half_whether_or_not_unlabeled_rows_take_part(dataset):
    for which in ("first", "second"):
        assert patients(dataset, which) <= patients(dataset, which, with_none=True)


def test_no_held_out_patient_is_in_a_half(dataset):
    held_out = dataset.manifest.filter(pl.col("split") != "train")["patient_id"]
    assert not set(held_out) & (patients(dataset, "first") | patients(dataset, "second"))


@pytest.mark.parametrize("which", ["none", "first", "second"])
@pytest.mark.parametrize("with_none", [False, True])
def test_a_digest_tells_which_half_was_seen(dataset, which, with_none):
    assert half_of(dataset, storage.digest(list(patients(dataset, which, with_none=with_none)))) == which


def test_the_digest_of_other_patients_is_none_of_them(dataset):
    some = sorted(patients(dataset, "none"))[:-1]
    assert half_of(dataset, storage.digest(some)) is None


def test_a_half_without_rows_is_an_error(tmp_path):
    tiny = open_dataset(write_dataset(tmp_path / "tiny", train=2))
    assert half(tiny, "first").height == 2
    with pytest.raises(DataError, match="the second half of the training patients has no rows"):
        half(tiny, "second")
    assert half_of(tiny, storage.digest([])) is None
