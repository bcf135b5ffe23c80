"""The real NIH table and the real radiographs of its selection `nih-mini`."""

import importlib.util
from pathlib import Path

import pytest

from trcgl.dataset.manifest import SPLITS
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources import nih
from trcgl.dataset.store import open_dataset


@pytest.fixture(scope="module")
def whole():
    found = importlib.util.find_spec("torchxrayvision")
    if found is None:
        pytest.skip("torchxrayvision, whose label table this reads, is not installed")
    return nih.read(Path(found.submodule_search_locations[0]) / "data")


def test_the_whole_table_has_the_published_counts(whole):
    assert whole.rows.height == 112_120 and not whole.dropped.height
    assert whole.rows["patient_id"].n_unique() == 30_805
    assert whole.rows["Hernia"].sum() == 227
    assert whole.rows["No Finding"].sum() == 60_361
    assert whole.boxes.height == 984


def test_the_whole_archive_is_grouped_by_prevalence(whole):
    assert whole.space.group_rule == "prevalence"


@pytest.mark.slow
def test_the_mini_archive_is_prepared_with_images_and_boxes(real_data, tmp_path):
    report = prepare("nih", real_data / "nih-mini", tmp_path / "out", PrepareOptions(size=64))
    dataset = open_dataset(tmp_path / "out")
    assert dataset.images.shape == (2_294, 64, 64) and not report["dropped"]
    assert dataset.manifest["patient_id"].n_unique() == 1_718
    assert dataset.boxes.height == 846 and not report["boxes_dropped"]
    assert dataset.space.in_group("tail") == ("Fibrosis", "Hernia")
    for split in SPLITS:
        rows = dataset.split(split)
        assert min(rows[finding].sum() for finding in dataset.space.findings) >= 3, split
