import polars as pl
import pytest

from trcgl.core.errors import DataError
from trcgl.dataset.table_file import read_table


@pytest.mark.parametrize("name", ["labels.csv", "LABELS.CSV"])
def test_two_columns_of_one_name_cannot_be_used(tmp_path, name):
    path = tmp_path / name
    path.write_text("image,Effusion,Effusion,note,note\na,1,0,x,y\n")
    assert read_table(path, needed=["image"]).frame["image"].to_list() == ["a"]
    with pytest.raises(DataError, match=r"column 'Effusion' occurs 2 times \(columns 2, 3\)"):
        read_table(path, needed=["image", "Effusion"])


def test_columns_without_a_name_do_not_disturb(tmp_path):
    (tmp_path / "t.csv").write_text(",image,,\n0,a,,\n1,b,,\n")
    assert read_table(tmp_path / "t.csv", needed=["image"]).frame["image"].to_list() == ["a", "b"]


def test_blanks_around_a_column_name_are_ignored(tmp_path):
    (tmp_path / "t.csv").write_text("image ,\u00a0patient\na,1\n")
    assert read_table(tmp_path / "t.csv", needed=["image", "patient"]).frame.rows() == [("a", "1")]


def test_mysqls_null_is_blank(tmp_path):
    (tmp_path / "t.csv").write_text("image,patient\na,\\N\n")
    assert read_table(tmp_path / "t.csv").frame.rows() == [("a", None)]


def test_a_message_does_not_quote_a_whole_file_that_has_no_header(tmp_path):
    (tmp_path / "t.csv").write_text(
        "a nodule of 5 mm in the upper lobe of the left lung, unchanged," + ",".join(map(str, range(99)))
    )
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "t.csv", needed=["image"])
    assert "lung" not in str(caught.value) and "and 61 more" in str(caught.value)


def test_lists_of_parquet_are_joined_by_the_delimiter(tmp_path):
    frame = pl.DataFrame(
        {"image": ["a", "b", "c"], "labels": [["Mass", "Nodule"], [], None], "codes": [[1, 2], [3], []]}
    )
    frame.write_parquet(tmp_path / "t.PARQUET")
    read = read_table(tmp_path / "t.PARQUET", list_separator=";").frame
    assert read["labels"].to_list() == ["Mass;Nodule", None, None]
    assert read["codes"].to_list() == ["1;2", "3", None]


def test_a_list_with_the_delimiter_in_an_element_names_the_option(tmp_path):
    pl.DataFrame({"labels": [["Mass|Nodule"]]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"'labels' has lists.*'\|'.*--source\.delimiter"):
        read_table(tmp_path / "t.parquet", needed=["labels"])


def test_structs_and_bytes_are_refused_only_if_they_are_needed(tmp_path):
    images = [{"bytes": b"x", "path": "i00.png"}]
    pl.DataFrame({"image": images, "raw": [b"x"], "patient": ["p"]}).write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", needed=["patient"]).frame.rows() == [("p",)]
    with pytest.raises(DataError, match=r"'image' holds structs \(bytes, path\), as Hugging Face.*paths"):
        read_table(tmp_path / "t.parquet", needed=["image"])
    with pytest.raises(DataError, match="'raw' is Binary"):
        read_table(tmp_path / "t.parquet", needed=["raw"])
