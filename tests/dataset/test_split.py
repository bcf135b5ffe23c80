import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SPLITS
from trcgl.dataset.split import split_patients

SPACE = LabelSpace("three", ("A", "B", "C"))


def rows_of(patients, labels, split=None):
    columns = {finding: pl.Series([row[place] for row in labels], dtype=pl.Int8) for place, finding in enumerate("ABC")}
    frame = pl.DataFrame({"patient_id": [str(patient) for patient in patients], **columns})
    return frame if split is None else frame.with_columns(split=pl.Series(split, dtype=pl.String))


label = st.sampled_from([0, 1, None])
tables = st.lists(st.tuples(st.integers(0, 30), st.tuples(label, label, label)), min_size=1, max_size=120)


@settings(max_examples=200)
@given(tables, st.integers(0, 5))
def test_a_patient_is_always_in_one_split(table, seed):
    rows = rows_of([patient for patient, _ in table], [labels for _, labels in table])
    split = split_patients(rows, SPACE, seed=seed)
    assert set(split) <= set(SPLITS) and len(split) == rows.height
    assert rows.with_columns(split).group_by("patient_id").agg(pl.col("split").n_unique())["split"].max() == 1


@settings(max_examples=200)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=40), st.integers(0, 5))
def test_a_finding_of_three_patients_or_more_reaches_every_split(images, seed):
    """Whatever number of images each patient has, when patients have the finding and nothing else."""
    patients = [patient for patient, number in enumerate(images) for _ in range(number)]
    split = split_patients(rows_of(patients, [(1, 0, None)] * len(patients)), SPACE, seed=seed)
    assert set(split) == set(SPLITS)


def test_findings_that_share_patients_all_reach_every_split_where_they_can():
    labels = [(1, 1, 0), (1, 1, 0), (1, 0, 0), (0, 1, 0)] + [(0, 0, 1)] * 30
    for seed in range(20):
        rows = rows_of(range(len(labels)), labels)
        rows = rows.with_columns(split_patients(rows, SPACE, seed=seed))
        for finding in "ABC":
            assert set(rows.filter(pl.col(finding) == 1)["split"]) == set(SPLITS)


def test_a_finding_of_two_patients_is_learned_and_tested():
    split = split_patients(rows_of(range(40), [(1, 0, 0)] * 2 + [(0, 1, 0)] * 38), SPACE)
    assert set(split[:2]) == {"train", "test"}


def test_shares_are_those_that_were_asked_for():
    rows = rows_of([row // 2 for row in range(4000)], [(int(row % 50 == 0), row % 2, 0) for row in range(4000)])
    split = split_patients(rows, SPACE, fractions=(0.6, 0.2, 0.2))
    for name, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        assert (split == name).mean() == pytest.approx(share, abs=0.01)


def test_the_same_seed_gives_the_same_split_in_any_row_order():
    rows = rows_of([row // 3 for row in range(300)], [(row % 7 == 0, row % 2, 0) for row in range(300)])
    rows = rows.with_columns(split_patients(rows, SPACE, seed=3))
    shuffled = rows.sample(fraction=1, shuffle=True, seed=1)
    assert split_patients(shuffled.drop("split"), SPACE, seed=3).equals(shuffled["split"])
    assert not split_patients(rows.drop("split"), SPACE, seed=4).equals(rows["split"])


def test_the_archives_test_list_is_kept_and_the_rest_is_divided_without_it():
    given = ["test" if row < 10 else None for row in range(100)]
    split = split_patients(rows_of(range(100), [(1, 0, 0)] * 100, given), SPACE)
    assert set(split[:10]) == {"test"}
    assert set(split[10:]) == {"train", "val"}


def test_other_images_of_a_patient_follow_the_one_that_is_given():
    split = split_patients(rows_of([1, 1, 2, 3], [(1, 0, 0)] * 4, ["test", None, None, None]), SPACE)
    assert split[1] == "test"


def test_a_patient_given_to_two_splits_is_refused():
    with pytest.raises(DataError, match=r"patient '7'.*train and test"):
        split_patients(rows_of([7, 7], [(1, 0, 0)] * 2, ["train", "test"]), SPACE)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_fractions_that_do_not_sum_to_one_are_refused(fractions):
    with pytest.raises(DataError, match="sum to 1"):
        split_patients(rows_of([1], [(1, 0, 0)]), SPACE, fractions=fractions)
