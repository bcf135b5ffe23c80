from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.small_dataset import SIDE, SPACE, write_dataset
from tests.dataset.small_synthetic import write_synthetic
from tests.generate.small_generator import small_generator
from trcgl.core.generator_recipe import AutoencoderRecipe, GeneratorRecipe, UNetRecipe
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import open_synthetic
from trcgl.generate import pipeline
from trcgl.study import training_variants
from trcgl.study.training_variants import duplicate

REJECTED = (2, 5, 12, 20)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    data = write_dataset(folder / "data")
    synthetic = write_synthetic(
        folder / "synthetic", data, targets={"Hernia": 12, "Normal": 6, "Mass": 6}, rejected=REJECTED
    )
    return open_dataset(data), synthetic


def counted(synthetic):
    return Counter(synthetic.targets.to_list())


@pytest.mark.parametrize("dose", [0.25, 0.5, None])
def test_unscreened_images_are_as_many_of_each_target_and_the_first_in_seed_order(folders, tmp_path, dose):
    real, synthetic = folders
    training_variants.unscreened(synthetic, real, tmp_path / "all")
    with_all, kept = open_synthetic(tmp_path / "all", real, dose), open_synthetic(synthetic, real, dose)
    assert counted(with_all) == counted(kept)
    whole = open_dataset(synthetic).manifest
    for target, number in counted(kept).items():
        first = [image_id for image_id in whole["image_id"] if f"-{target}-" in image_id][:number]
        assert [image_id for image_id in with_all.rows["image_id"] if f"-{target}-" in image_id] == first
    if dose is None:
        assert "drawn-Hernia-002" in with_all.rows["image_id"] and "drawn-Hernia-002" not in kept.rows["image_id"]
    original = dict(zip(whole["image_id"], whole["row"], strict=True))
    images = open_dataset(synthetic).images
    for row in with_all.rows.iter_rows(named=True):
        assert (with_all.dataset.images[row["row"]] == images[original[row["image_id"]]]).all()


@pytest.mark.parametrize("dose", [0.25, 0.75])
def test_deranged_images_are_the_same_and_their_label_sets_are_exchanged(folders, tmp_path, dose):
    real, synthetic = folders
    assert training_variants.deranged(synthetic, real, dose, tmp_path / "deranged") == 0
    before, after = open_synthetic(synthetic, real, dose), open_synthetic(tmp_path / "deranged", real, dose)
    assert after.rows["image_id"].to_list() == before.rows["image_id"].to_list()
    for row, row_after in zip(before.rows["row"], after.rows["row"], strict=True):
        assert (before.dataset.images[row] == after.dataset.images[row_after]).all()
    labels = [Counter(rows.rows.select(SPACE.findings).iter_rows()) for rows in (before, after)]
    assert labels[0] == labels[1]
    for target, row in zip(before.targets, after.rows.iter_rows(named=True), strict=True):
        assert row[target] != 1


SETS = st.lists(st.sets(st.sampled_from("abcd"), min_size=1, max_size=2), min_size=2, max_size=30)


@given(SETS, st.integers(0, 3))
def test_a_derangement_is_a_permutation_that_gives_no_image_its_own_finding_where_possible(sets, seed):
    requested = [sorted(labels) for labels in sets]
    targets = [labels[0] for labels in requested]
    giver = training_variants.derange(targets, requested, seed)
    assert sorted(giver) == list(range(len(sets)))
    own = [target in requested[place] for target, place in zip(targets, giver, strict=True)]
    alone = all(len(labels) == 1 for labels in requested)
    if alone and max(Counter(targets).values()) <= len(targets) / 2:
        assert not any(own)
    assert (giver == training_variants.derange(targets, requested, seed)).all()


def test_where_all_images_show_one_finding_nothing_can_be_deranged_and_it_is_reported(folders, tmp_path):
    real, _ = folders
    synthetic = write_synthetic(tmp_path / "synthetic", real.folder, targets={"Hernia": 5})
    assert training_variants.deranged(synthetic, real, 1.0, tmp_path / "deranged") == 5


def test_a_round_trip_changes_pixels_where_the_autoencoder_does_and_nothing_else(folders, tmp_path):
    real, synthetic = folders
    duplicate(synthetic, real, tmp_path / "duplicates")
    lossless, _ = small_generator()
    training_variants.round_trip(tmp_path / "duplicates", real, tmp_path / "same", lossless)
    assert training_variants.unchanged(tmp_path / "duplicates", tmp_path / "same")
    autoencoder = AutoencoderRecipe(kind="vae", factor=2, width=16)
    recipe = GeneratorRecipe(image_size=SIDE, autoencoder=autoencoder, unet=UNetRecipe(widths=(32,), layers=1))
    training_variants.round_trip(tmp_path / "duplicates", real, tmp_path / "changed", pipeline.build(recipe, SPACE))
    assert not training_variants.unchanged(tmp_path / "duplicates", tmp_path / "changed")
    duplicates, changed = (open_synthetic(tmp_path / name, real, 0.5) for name in ("duplicates", "changed"))
    assert changed.rows.equals(duplicates.rows) and changed.targets.equals(duplicates.targets)
    assert np.ptp(changed.dataset.images) > 0


def test_label_sets_hold_positive_findings_and_no_unknown_label():
    rows = pl.DataFrame({"a": [1, None], "b": [0, 1], "c": [1, None]})
    assert training_variants.label_sets(rows, ["a", "b", "c"]) == [["a", "c"], ["b"]]
