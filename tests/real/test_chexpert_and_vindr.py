"""The counts of the real label tables of CheXpert and VinBigData, which the package torchxrayvision carries."""

import importlib.util
from pathlib import Path

import pytest

from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources import chexpert, vindr
from trcgl.dataset.store import open_dataset


@pytest.fixture(scope="module")
def tables():
    found = importlib.util.find_spec("torchxrayvision")
    if found is None:
        pytest.skip("torchxrayvision, whose label tables this reads, is not installed")
    return Path(found.submodule_search_locations[0]) / "data"


@pytest.fixture(scope="module")
def whole(tables):
    return chexpert.read(tables)


def test_chexpert_has_the_published_images_and_patients(whole):
    assert whole.rows.height == 223_414
    assert not whole.dropped.height
    assert whole.rows["patient_id"].n_unique() == 64_540
    assert dict(whole.rows["view"].value_counts().iter_rows()) == {"frontal": 191_027, "lateral": 32_387}


def test_chexpert_keeps_uncertain_labels_as_unknown_and_blanks_as_absent(whole):
    seen = {name: (whole.rows[name].sum(), whole.rows[name].null_count()) for name in whole.space.findings}
    assert seen["No Finding"] == (22_381, 0)
    assert seen["Pleural Effusion"] == (86_187, 11_628)
    assert seen["Atelectasis"] == (33_376, 33_739)
    assert seen["Pleural Other"] == (3_523, 2_653)


def test_chexpert_sets_aside_only_the_rows_without_any_mention(whole):
    assert whole.rows["set_aside"].count() == 12


def test_vindr_joins_three_readings_of_each_image(tables):
    table = vindr.read(tables)
    assert table.rows.height == 15_000
    assert table.rows["No finding"].sum() == 10_606
    assert table.rows["Aortic enlargement"].sum() == 2_346
    assert table.rows["Pneumothorax"].sum() == 58
    assert table.rows["set_aside"].count() == 42
    assert table.counts["boxes of all readers"] == 36_096
    assert table.boxes.height == 16_037


def test_vindr_with_any_reader_counts_every_mark(tables):
    table = vindr.read(tables, vindr.Options(agreement="any"))
    assert table.rows["No finding"].sum() == 10_606
    assert table.rows["Pneumothorax"].sum() == 96
    assert not table.rows["set_aside"].count()


@pytest.mark.parametrize("source", [pytest.param("chexpert", marks=pytest.mark.slow), "vindr"])
def test_the_labels_become_a_dataset_with_every_finding_in_every_split(tables, tmp_path, source):
    prepare(source, tables, tmp_path / "out", PrepareOptions(manifest_only=True))
    dataset = open_dataset(tmp_path / "out")
    for split in ("train", "val", "test"):
        rows = dataset.split(split)
        assert min(rows[finding].sum() for finding in dataset.space.findings) >= 3
