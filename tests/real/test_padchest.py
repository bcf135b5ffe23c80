"""The counts of the real PadChest label table, which the package torchxrayvision carries."""

import importlib.util
import time
from pathlib import Path

import polars as pl
import pytest

from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.describe import describe
from trcgl.dataset.manifest import SPLITS, taking_part
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.store import open_dataset


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    found = importlib.util.find_spec("torchxrayvision")
    if found is None:
        pytest.skip("torchxrayvision, whose label table this reads, is not installed")
    root = Path(found.submodule_search_locations[0]) / "data"
    out = tmp_path_factory.mktemp("padchest") / "dataset"
    start = time.process_time()  # on a busy machine the wall clock measures the others
    report = prepare("padchest", root, out, PrepareOptions(manifest_only=True))
    return report, open_dataset(out), time.process_time() - start


def test_rows_after_the_rules_and_with_any_finding(prepared):
    report, dataset, _ = prepared
    assert report["counts"]["rows in the table"] == 160_861
    assert dataset.manifest.height == 154_531
    assert taking_part(dataset.manifest).height == 123_367
    assert sorted(report["reasons"].values()) == [103, 777, 1_312, 4_138]
    assert report["counts"]["empty label tokens"] == 3_041
    assert report["counts"]["rows that repeat a label"] == 669


def test_counts_and_cooccurrence_are_the_published_ones(prepared, real_data):
    _, dataset, _ = prepared
    seen = counts(taking_part(dataset.manifest), dataset.space)
    expected = pl.read_csv(real_data / "padchest30" / "counts.csv")
    assert dict(zip(dataset.space.findings, seen.positives.tolist(), strict=True)) == dict(
        expected.select("finding", "images").iter_rows()
    )
    matrix = pl.read_csv(real_data / "padchest30" / "cooccurrence.csv")
    assert matrix["finding"].to_list() == list(dataset.space.findings)
    assert (matrix.drop("finding").to_numpy() == seen.joint).all()


def test_no_patient_is_in_two_splits_although_one_study_has_two_patients(prepared):
    _, dataset, _ = prepared
    splits = dataset.manifest.group_by("patient_id").agg(pl.col("split").n_unique())["split"]
    assert splits.max() == 1 and len(splits) == 66_181
    patients = dataset.manifest.group_by("study_id").agg(pl.col("patient_id").n_unique())["patient_id"]
    assert (patients > 1).sum() == 1


def test_every_finding_has_positives_in_every_split(prepared):
    _, dataset, _ = prepared
    for split in SPLITS:
        rows = dataset.split(split)
        assert min(rows[finding].sum() for finding in dataset.space.findings) >= 3, split
    hydro = dataset.manifest.filter(pl.col("Hydropneumothorax") == 1)
    assert hydro.height == 48
    assert min(hydro.filter(pl.col("split") == split)["patient_id"].n_unique() for split in SPLITS) >= 3


def test_views_and_label_sources(prepared):
    _, dataset, _ = prepared
    views = dict(dataset.manifest["view"].value_counts().iter_rows())
    assert views == {"frontal": 106_151, "lateral": 47_756, "other": 616, None: 8}
    assert dict(dataset.manifest["label_source"].value_counts().iter_rows()) == {
        "physician": 37_769,
        "network": 116_762,
    }


def test_it_takes_less_than_twenty_seconds_of_a_processor(prepared):
    assert prepared[2] < 20


def test_the_long_tail_is_described(prepared, tmp_path):
    dataset = prepared[1]
    summary = describe(dataset.folder, tmp_path)
    assert [len(summary["groups"][group]) for group in ("head", "medium", "tail")] == [3, 20, 7]
    images = {row["finding"]: row["images"] for row in summary["findings"]}
    assert (max(images.values()), min(images.values())) == (50_616, 48)
    train = dataset.split("train")
    assert summary["train"]["imbalance"] == train["Normal"].sum() / train["Hydropneumothorax"].sum()
    assert (tmp_path / "figures" / "cooccurrence.png").exists()
