import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from trcgl.dataset.cooccurrence import Cooccurrence, counts
from trcgl.dataset.labels import LabelSpace

SPACE = LabelSpace("three", ("A", "B", "C"))


def manifest(rows):
    return pl.DataFrame(rows, schema={finding: pl.Int8 for finding in "ABC"}, orient="row")


def test_counts_of_a_table_worked_by_hand():
    seen = counts(manifest([(1, 1, 0), (1, 0, None), (1, None, None), (0, 1, 1), (0, 0, 0)]), SPACE)
    assert seen.positives.tolist() == [3, 2, 1]
    assert seen.joint.tolist() == [[3, 1, 0], [1, 2, 1], [0, 1, 1]]
    assert seen.rows == 5 and seen.rows_with_any == 4
    np.testing.assert_allclose(seen.conditional(), [[1, 1 / 2, 0], [1 / 2, 1, 1 / 2], [0, 1, 1]])
    np.testing.assert_allclose(seen.prevalence(), [3 / 4, 2 / 4, 1 / 4])


def test_an_unknown_label_is_not_an_absent_one():
    known = counts(manifest([(1, 1, 0), (1, 0, 0)]), SPACE).conditional()[0, 1]
    unknown = counts(manifest([(1, 1, 0), (1, None, 0)]), SPACE).conditional()[0, 1]
    assert (known, unknown) == (0.5, 1.0)


def test_a_finding_without_positives_has_a_row_of_zeros():
    assert counts(manifest([(1, 1, 0)]), SPACE).conditional()[2].tolist() == [0, 0, 0]


def test_smoothing_is_added_to_the_rows_with_the_first_finding():
    seen = counts(manifest([(1, 1, 0), (1, 0, 0), (0, 1, 0)]), SPACE)
    np.testing.assert_allclose(seen.conditional(1.0), [[2 / 3, 1 / 3, 0], [1 / 3, 2 / 3, 0], [0, 0, 0]])


@given(st.lists(st.tuples(*[st.sampled_from([0, 1, None])] * 3), max_size=50))
def test_counts_agree_with_counting_one_by_one_and_survive_storage(rows):
    seen = counts(manifest(rows), SPACE)
    for i in range(3):
        for j in range(3):
            assert seen.joint[i, j] == sum(row[i] == 1 and row[j] == 1 for row in rows)
            assert seen.known[i, j] == sum(row[i] == 1 and row[j] is not None for row in rows)
    again = Cooccurrence.from_dict(seen.to_dict())
    assert all(np.array_equal(getattr(again, name), value) for name, value in vars(seen).items())
