import gzip

import polars as pl
import pytest

from trcgl.core.errors import DataError
from trcgl.dataset.sources import reading
from trcgl.dataset.table_file import read_table


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("58", 58),
        ("058Y", 58),
        ("58.0", 58),
        ("18M", 1.5),
        ("730D", 2),
        ("411", None),
        ("", None),
        ("-3", None),
        ("old", None),
    ],
)
def test_ages(text, years):
    age = pl.DataFrame({"age": [text]}).select(reading.age_in_years("age")).item()
    assert age == (years if years is None else pytest.approx(years, abs=0.01))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_and_byte_order_marks_are_recognized(tmp_path, separator, mark):
    path = tmp_path / "t.csv"
    path.write_text(mark + "a;b\n1; \n".replace(";", separator), encoding="utf-8")
    assert read_table(path, needed=("a", "b")).frame.rows() == [("1", " ")]


def test_a_compressed_table_reads_like_a_plain_one(tmp_path):
    with gzip.open(tmp_path / "t.csv.gz", "wt") as handle:
        handle.write("a,b\n1,\n")
    assert read_table(tmp_path / "t.csv.gz").frame.rows() == [("1", None)]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2,3,4\n", b"\xff\xfe\x00\x80", b"\x1f\x8b broken"])
def test_a_damaged_table_is_refused_by_name(tmp_path, content):
    path = tmp_path / ("t.csv.gz" if content.startswith(b"\x1f") else "t.csv")
    path.write_bytes(content)
    with pytest.raises(DataError, match=path.name):
        read_table(path, needed=("a",))
