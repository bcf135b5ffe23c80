"""Which rows of a synthetic folder train: kept ones, for this dataset, of its train patients, up to a dose."""

import itertools

import polars as pl
import pytest

from tests.dataset.small_dataset import SPACE, write_dataset
from tests.dataset.small_synthetic import write_synthetic
from trcgl.core.errors import DataError
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import open_synthetic

TARGETS = {"Hernia": 20, "Edema": 40, "Normal": 15, "Mass": 15}
DOSES = (0.0, 0.05, 0.3, 0.5, 1.0, 1.7, 2.0, 5.0, None)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(write_dataset(tmp_path_factory.mktemp("data") / "small"))


@pytest.fixture(scope="module")
def synthetic(dataset, tmp_path_factory):
    return write_synthetic(
        tmp_path_factory.mktemp("synthetic") / "synthetic", dataset.folder, targets=TARGETS, rejected=(0, 3, 25, 61)
    )


def per_target(taken):
    return dict(taken.targets.value_counts().iter_rows())


def real(dataset, finding):
    return dataset.split("train").filter(pl.col(finding) == 1).height


def test_every_kept_row_takes_part_and_no_rejected_one(dataset, synthetic):
    taken = open_synthetic(synthetic, dataset)
    assert per_target(taken) == {"Hernia": 18, "Edema": 39, "Normal": 14, "Mass": 15}
    assert not set(taken.rows["image_id"]) & {"drawn-Hernia-000", "drawn-Hernia-003", "drawn-Edema-005"}


def test_a_dose_counts_kept_rows_that_target_a_finding_against_its_real_ones(dataset, synthetic):
    half = per_target(open_synthetic(synthetic, dataset, 0.5))
    assert half["Hernia"] == round(0.5 * real(dataset, "Hernia")) > 1
    assert half["Edema"] == round(0.5 * real(dataset, "Edema")) > 1


def test_normal_and_head_images_are_taken_in_proportion(dataset, synthetic):
    everything, half = (
        per_target(open_synthetic(synthetic, dataset)),
        per_target(open_synthetic(synthetic, dataset, 0.5)),
    )
    share = (half["Hernia"] + half["Edema"]) / (everything["Hernia"] + everything["Edema"])
    for finding in ("Normal", "Mass"):
        assert half[finding] - 1 < share * everything[finding] <= half[finding] < everything[finding]


def test_a_smaller_dose_is_a_prefix_of_a_larger_one(dataset, synthetic):
    rows = [open_synthetic(synthetic, dataset, dose) for dose in DOSES]
    for smaller, larger in itertools.pairwise(rows):
        for target in TARGETS:
            first, more = (
                taken.rows.filter(taken.targets == target)["image_id"].to_list() for taken in (smaller, larger)
            )
            assert more[: len(first)] == first == sorted(first)
    assert [taken.rows.height for taken in rows] == sorted(taken.rows.height for taken in rows)
    assert rows[0].rows.height == 0 < rows[1].rows.height


@pytest.mark.parametrize("dose", [None, 1.0])
def test_a_folder_of_which_nothing_was_kept_holds_nothing(dataset, tmp_path, dose):
    nothing = write_synthetic(tmp_path / "synthetic", dataset.folder, targets={"Hernia": 4}, rejected=(0, 1, 2, 3))
    assert open_synthetic(nothing, dataset, dose).rows.height == 0


def test_a_dose_above_what_was_kept_takes_all_of_it(dataset, synthetic):
    assert per_target(open_synthetic(synthetic, dataset, 100.0)) == per_target(open_synthetic(synthetic, dataset))


def test_head_findings_are_the_targets_of_a_folder_without_others(dataset, tmp_path):
    folder = write_synthetic(tmp_path / "synthetic", dataset.folder, targets={"Mass": 15})
    assert per_target(open_synthetic(folder, dataset, 0.25)) == {"Mass": round(0.25 * real(dataset, "Mass"))}


def test_counts_tell_incidental_images_from_those_that_target_a_finding(dataset, synthetic):
    taken = open_synthetic(synthetic, dataset)
    counts = taken.counts(dataset.split("train"))
    assert counts.keys() == set(SPACE.findings)
    for finding, row in counts.items():
        assert row["real"] == real(dataset, finding)
        assert row["synthetic_for"] == per_target(taken)[finding]
        assert row["dose"] == row["synthetic_for"] / row["real"]
        assert row["synthetic_with"] == (taken.rows[finding] == 1).sum() >= row["synthetic_for"]
    assert counts["Mass"]["synthetic_with"] > counts["Mass"]["synthetic_for"]  # some with Hernia have Mass beside it


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": "table"}, "holds no synthetic images"),
        ({"synthetic": {"dataset": "other", "dataset_digest": "0"}}, r"generated for another dataset \(other\)"),
        ({"side": 16}, "images are 16 px"),
    ],
)
def test_a_folder_that_does_not_belong_to_the_dataset_is_refused(dataset, tmp_path, wrong, message):
    with pytest.raises(DataError, match=message):
        open_synthetic(write_synthetic(tmp_path / "synthetic", dataset.folder, **wrong), dataset)


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_image_of_a_held_out_patient_is_refused_and_named(dataset, tmp_path, split):
    patients = dataset.split("train")["patient_id"].head(16).to_list()
    patients[5] = dataset.split(split)["patient_id"][0]
    folder = write_synthetic(tmp_path / "synthetic", dataset.folder, patients=patients)
    with pytest.raises(DataError, match="'drawn-Hernia-005' and 0 more are not of train patients"):
        open_synthetic(folder, dataset)


def test_a_real_dataset_is_no_synthetic_folder(dataset):
    with pytest.raises(DataError, match="holds no synthetic images"):
        open_synthetic(dataset.folder, dataset)
