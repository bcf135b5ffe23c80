"""Which findings the phantoms have: the long tail of train, the enriched val and test, and the way back."""

import numpy as np
import polars as pl
import pytest

from trcgl.core.errors import DataError
from trcgl.dataset.manifest import check_leak, label_array
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources import phantom
from trcgl.dataset.sources.phantom import Options
from trcgl.dataset.store import open_dataset
from trcgl.phantom import labels
from trcgl.phantom.findings import FINDINGS

SMALL = Options(train_images=20, positives_per_finding=1, size=32)


@pytest.fixture(scope="module")
def rows():
    """The default benchmark's table."""
    return phantom.read(None, Options(boxes=False)).rows


def test_label_sets_are_those_of_padchest():
    members, share = labels.padchest_label_sets()
    prevalence = dict(zip(FINDINGS, share @ members, strict=True))
    assert prevalence["Normal"] == pytest.approx(50616 / 123367)
    assert prevalence["Hydropneumothorax"] == pytest.approx(48 / 123367)
    assert (share @ members).sum() == pytest.approx(1.46, abs=0.005)


@pytest.mark.parametrize("imbalance", [10.0, 100.0, 500.0])
def test_the_dial_sets_the_ratio_of_most_to_least_frequent(imbalance):
    members, share = labels.padchest_label_sets()
    before, after = share @ members, labels.benchmark(imbalance) @ members
    assert after.max() / after.min() == pytest.approx(imbalance, rel=1e-3)
    assert after.sum() == pytest.approx(before.sum(), rel=1e-6)
    assert (np.argsort(before) == np.argsort(after)).all()


def test_padchests_own_imbalance_changes_nothing():
    members, share = labels.padchest_label_sets()
    prevalence = share @ members
    assert labels.benchmark(prevalence.max() / prevalence.min()) == pytest.approx(share, rel=1e-6)


def test_no_closer_distribution_has_the_prevalences():
    """At the solution log(p' / p) is a sum over findings: any label set, doubled, has twice the logarithm."""
    members, share = labels.padchest_label_sets()
    ratio = np.log(labels.benchmark(100.0) / share)
    design = np.column_stack([members, np.ones(len(members))]).astype(float)
    fitted = design @ np.linalg.lstsq(design, ratio, rcond=None)[0]
    assert np.abs(fitted - ratio).max() < 1e-8


@pytest.mark.parametrize("imbalance", [1.0, -3.0, 1e9])
def test_an_impossible_imbalance_is_refused(imbalance):
    with pytest.raises(DataError, match="between 2 and 5000"):
        labels.benchmark(imbalance)


def test_train_follows_the_long_tail(rows):
    train = label_array(rows.filter(pl.col("split") == "train"), phantom.SPACE).sum(0)
    expected = 4000 * labels.benchmark(100.0) @ labels.padchest_label_sets()[0]
    assert len(rows.filter(pl.col("split") == "train")) == 4000
    assert np.abs(train - expected).max() < 4 * np.sqrt(expected.max())
    assert 8 <= train.min() <= 12


@pytest.mark.parametrize("split", ["val", "test"])
def test_val_and_test_hold_a_hundred_positives_of_every_finding(rows, split):
    part = rows.filter(pl.col("split") == split)
    assert label_array(part, phantom.SPACE).sum(0).min() >= 100
    assert part.height < 2500


@pytest.mark.parametrize("split", ["val", "test"])
def test_weights_lead_back_to_the_prevalence_of_train(rows, split):
    part = rows.filter(pl.col("split") == split)
    weight, truth = part["weight"].to_numpy(), label_array(part, phantom.SPACE)
    assert weight.mean() == pytest.approx(1) and weight.min() > 0
    weighted = (weight[:, None] * truth).mean(0)
    expected = labels.benchmark(100.0) @ labels.padchest_label_sets()[0]
    assert weighted == pytest.approx(expected, rel=0.12)
    assert set(rows.filter(pl.col("split") == "train")["weight"]) == {1.0}


def test_no_patient_is_in_two_splits_and_some_have_several_radiographs(rows):
    check_leak(rows)
    several = rows.group_by("patient_id").agg(pl.len(), pl.col("sex").n_unique(), pl.col("age").n_unique())
    assert 0.2 < (several["len"] > 1).mean() < 0.4
    assert several["sex"].max() == 1 and several["age"].max() == 1


def test_ages_fit_the_findings(rows):
    mean = {name: rows.filter(pl.col(name) == 1)["age"].mean() for name in ("Normal", "aortic atheromatosis")}
    assert mean["aortic atheromatosis"] > mean["Normal"] + 15


def test_groups_are_those_of_padchest_30():
    groups = [len(phantom.SPACE.in_group(group)) for group in ("head", "medium", "tail")]
    assert groups == [3, 20, 7] and phantom.SPACE.group_rule == "name"


def test_another_seed_gives_other_patients():
    first, second = (phantom.read(None, Options(train_images=50, boxes=False, seed=seed)).rows for seed in (0, 1))
    assert not set(first["image_id"]) & set(second["image_id"])
    assert (label_array(first, phantom.SPACE)[:50] != label_array(second, phantom.SPACE)[:50]).any()


def test_a_stored_phantom_can_be_rendered_again_with_its_masks(tmp_path):
    prepare("phantom", None, tmp_path / "set", PrepareOptions(size=32, workers=1), SMALL)
    dataset = open_dataset(tmp_path / "set")
    options = phantom.options_of(tmp_path / "set")
    assert options == SMALL
    for row in dataset.split("test").head(8).iter_rows(named=True):
        again = phantom.render_again(row["image_id"], options)
        assert (again.pixels == dataset.images[row["row"]]).all()
        assert all(row[finding] == 1 for finding in again.masks)
        boxed = dataset.boxes.filter(pl.col("image_id") == row["image_id"])
        assert set(boxed["finding"]) == set(again.masks)
    assert any("phantom" in note for note in dataset.info["notes"])
    assert set(dataset.manifest["label_source"]) == {"phantom"}


def test_an_image_that_the_options_do_not_give_is_refused():
    for function in (phantom.render_again, phantom.specification):
        with pytest.raises(DataError, match="phantom-9-test-00001"):
            function("phantom-9-test-00001", SMALL)


def test_options_of_a_dataset_of_another_source_are_refused(tmp_path):
    (tmp_path / "prepare.json").write_text('{"source": "nih"}')
    with pytest.raises(DataError, match="nih"):
        phantom.options_of(tmp_path)


def test_a_set_without_images_is_refused():
    with pytest.raises(DataError, match="1 or more"):
        Options(train_images=0)
