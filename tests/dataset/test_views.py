"""Views of radiographs: which rows train and are evaluated."""

import dataclasses

import polars as pl
import pytest

from tests.dataset.small_dataset import write_dataset
from trcgl.core.errors import DataError
from trcgl.dataset.patient_halves import half
from trcgl.dataset.store import open_dataset
from trcgl.dataset.target import external_target, own_target


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(write_dataset(tmp_path_factory.mktemp("views") / "data"))


def without_views(dataset):
    return dataclasses.replace(dataset, manifest=dataset.manifest.with_columns(view=pl.lit(None, pl.String)))


def test_no_view_named_keeps_every_row(dataset):
    assert dataset.split("train").height == 44


@pytest.mark.parametrize(("views", "kept"), [(("frontal",), 29), (("lateral",), 15), (("frontal", "lateral"), 44)])
def test_rows_of_the_named_views_are_kept_in_their_order(dataset, views, kept):
    rows = dataset.split("train", views=views)
    assert rows.height == kept and set(rows["view"]) == set(views)
    assert rows["row"].is_sorted()


def test_an_image_without_a_view_is_left_out_if_views_are_named(dataset):
    view = pl.when(pl.col("row") == 1).then(None).otherwise("view").name.keep()
    some = dataclasses.replace(dataset, manifest=dataset.manifest.with_columns(view))
    assert some.split("train").height == 44 and some.split("train", views=("frontal",)).height == 28


def test_a_half_of_the_patients_has_the_same_patients_whatever_the_views(dataset):
    whole, frontal = half(dataset, "first"), half(dataset, "first", views=("frontal",))
    assert frontal["image_id"].to_list() == whole.filter(view="frontal")["image_id"].to_list()


@pytest.mark.parametrize("read", ["split", "half", "own", "external"])
def test_a_dataset_without_views_is_refused_with_the_column_and_the_remedy(dataset, read):
    bare = without_views(dataset)
    other = open_dataset(dataset.folder)
    with pytest.raises(DataError, match=r"no frontal image, because column 'view' .* is empty.*view-column"):
        if read == "split":
            bare.split("val", views=("frontal",))
        elif read == "half":
            half(bare, "none", views=("frontal",))
        elif read == "own":
            own_target(bare, "test", False, ("frontal",))
        else:
            unseen = dataclasses.replace(
                bare,
                info={**bare.info, "source": "nih"},
                manifest=bare.manifest.with_columns(sha256=pl.lit(None, pl.String)),
                images=None,
            )
            external_target(other, other.space, unseen, "test", False, ("frontal",))


def test_a_view_that_the_split_lacks_is_refused_with_those_that_it_has(dataset):
    with pytest.raises(DataError, match=r"val has no other image: column 'view' holds frontal, lateral"):
        dataset.split("val", views=("other",))
