"""The journal of `predict`: one writer at a time, and no batch that does not follow the one before."""

import pytest

from trcgl.core.errors import DataError
from trcgl.predict.journal import Batch, Journal

NAMES = ["a.png", "b.txt", "c.png"]


def test_a_second_process_is_refused_until_the_first_lets_go(tmp_path):
    path = tmp_path / "out.csv.partial"
    first = Journal(path, {}, NAMES)
    with pytest.raises(DataError, match=r"out\.csv\.partial: another predict writes it. Let that one finish"):
        Journal(path, {}, NAMES)
    first.close()
    Journal(path, {}, NAMES).close()


def test_batches_are_found_again_whatever_the_order_of_what_could_not_be_read(tmp_path):
    path = tmp_path / "out.csv.partial"
    journal = Journal(path, {}, NAMES)
    batch = Batch(["a.png", "c.png"], [None, None], [[0.5], [0.25]], [["b.txt", "not a radiograph"]])
    journal.add(batch)
    journal.close()
    again = Journal(path, {}, NAMES)
    assert again.batches == [batch] and again.done == 3
    again.close()


@pytest.mark.parametrize("order", [[0, 0], [1], [0, 1, 1]])
def test_a_journal_that_skips_or_repeats_files_is_refused_and_kept(order, tmp_path):
    path = tmp_path / "out.csv.partial"
    journal = Journal(path, {}, NAMES)
    for name in NAMES:
        journal.add(Batch([name], [None], [[0.5]]))
    journal.close()
    head, *batches = path.read_text().splitlines(keepends=True)
    path.write_text(written := "".join([head, *(batches[place] for place in order)]))
    with pytest.raises(DataError, match=r"out\.csv\.partial is damaged: it skips or repeats files. Remove it yourself"):
        Journal(path, {}, NAMES)
    assert path.read_text() == written


def test_a_journal_that_was_cut_off_in_its_first_line_is_begun_again(tmp_path):
    path = tmp_path / "out.csv.partial"
    Journal(path, {"tta": False}, NAMES).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    Journal(path, {"tta": False}, NAMES).close()
    assert path.read_bytes() == whole
