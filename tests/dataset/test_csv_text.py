"""Rows read are the rows of the file, or the line that cannot be read is named."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trcgl.core.errors import DataError
from trcgl.dataset.csv_text import parse_csv

TABLE = Path("labels.csv")
LINES = "image,patient,labels,report\n" + "".join(f"i{row:02d}.png,p{row // 2},Mass,{{}}\n" for row in range(12))
EXAMPLES = int(os.environ.get("TRCGL_CSV_EXAMPLES", "1000"))


def rows(text, encoding="utf-8", known=("image", "patient")):
    parsed = parse_csv(text.encode(encoding), TABLE, known=known)
    return parsed.header, parsed.frame.rows(), parsed.notices


def with_reports(*reports):
    """Twelve rows whose reports are `normal` but for the given ones, from the third row on."""
    cells = ["normal"] * 12
    cells[2 : 2 + len(reports)] = reports
    return LINES.format(*cells)


def refused_line(text):
    with pytest.raises(DataError) as caught:
        rows(text)
    assert "tube" not in str(caught.value) and "nodule" not in str(caught.value), "a report was quoted"
    return int(re.search(r"line (\d+)", str(caught.value))[1])


@pytest.mark.parametrize("report", ['tube 5" above carina', 'nodule 5"', '5" tube and 3" line'])
def test_a_quote_within_a_plain_cell_is_a_character(report):
    assert [row[3] for row in rows(with_reports(report))[1]] == ["normal"] * 2 + [report] + ["normal"] * 9


@pytest.mark.parametrize("report", ['"nodule" seen', '"tube tip at 5cm'])
def test_a_stray_quote_is_refused_with_its_line(report):
    assert refused_line(with_reports(report)) == 4


def test_a_stray_quote_that_another_row_closes_swallows_no_row():
    assert refused_line(with_reports('"tube tip at 5cm', "normal", 'nodule 5"')) == 4


@pytest.mark.parametrize("report", [r'"tube 5\" deep"', r'"\"5 cm"', r'"\""'])
@pytest.mark.parametrize("times", [1, 2, 12])
def test_quotes_escaped_by_backslashes_lose_no_row(report, times):
    _, found, _ = rows(LINES.format(*[report] * times, *["normal"] * (12 - times)))
    assert [row[0] for row in found] == [f"i{row:02d}.png" for row in range(12)]
    assert found[0][3] == report[1:-1].replace('\\"', '"')


def test_a_windows_path_that_ends_with_a_backslash_stays():
    assert rows('image,folder\na.png,"C:\\scans\\"\nb.png,"x, y"\n')[1] == [("a.png", "C:\\scans\\"), ("b.png", "x, y")]


def test_a_cell_of_several_lines_is_one_cell():
    report = 'line one,\nline "two"; x'
    quoted = '"' + report.replace('"', '""') + '"'
    assert [row[3] for row in rows(with_reports(quoted, quoted))[1]][2:4] == [report, report]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_read(end):
    assert len(rows(with_reports().replace("\n", end))[1]) == 12


def test_a_row_with_too_many_cells_is_named_with_its_line_and_both_numbers():
    with pytest.raises(DataError, match=r"labels\.csv: line 4 has 5 cells, the first row 4"):
        rows(with_reports("tube, normal"))


def test_separators_behind_the_last_cell_are_ignored():
    assert rows("image,patient\na,1,\nb,2,\n")[1] == [("a", "1"), ("b", "2")]


def test_missing_cells_are_blank_and_counted():
    _, found, notices = rows("image,patient,labels,report\na,1,x,normal\nb,1\n")
    assert found == [("a", "1", "x", "normal"), ("b", "1", "", "")]
    assert "count as blank): 1" in notices[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("image,patient,report\na,1,tube\nnodule\nb,2,x\n", 3),
        ("image,report,labels\na,tube\nnodule,Mass\nb,x,Mass\n", 3),
        ("image,report,labels\na,tube\nand\nnodule,Mass\nb,x,Mass\n", 4),
    ],
)
def test_a_line_break_without_quotes_is_refused_with_its_line(text, line):
    assert refused_line(text) == line


def test_the_separator_is_the_one_by_which_the_header_fits_the_rows():
    header, found, _ = rows("image,patient,labels,note (a; b; c; d; e)\ni00.png,p0,Mass,x\n")
    assert header == ["image", "patient", "labels", "note (a; b; c; d; e)"] and len(found[0]) == 4


def test_a_list_of_paths_with_commas_has_one_column():
    assert rows("path\nx,y.png\nz.png\n", known=["path"])[1] == [("x,y.png",), ("z.png",)]


@pytest.mark.parametrize("separator", [";", "\t", "|", "#"])
def test_excels_declaration_of_the_separator_is_read(separator):
    text = f"sep={separator}\r\nimage{separator}patient\r\na{separator}1\r\n"
    assert rows(text)[:2] == (["image", "patient"], [("a", "1")])


def test_lines_are_counted_with_the_declaration_of_the_separator():
    assert refused_line("sep=;\nimage;report\na;normal\nb;tube;nodule\n") == 4


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("cp1252", "Windows-1252"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16")],
)
def test_other_encodings_are_recognized_and_named(encoding, name):
    _, found, notices = rows("image;labels\na;Épanchement\n", encoding)
    assert found == [("a", "Épanchement")]
    assert f"was read as {name}" in notices[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_needs_no_notice(encoding):
    assert rows("image;labels\na;Épanchement\n", encoding) == (["image", "labels"], [("a", "Épanchement")], ())


def test_a_table_in_two_encodings_is_refused_with_the_line():
    content = "image,labels\na,Épanchement\n".encode() + "b,Épanchement\n".encode("cp1252")
    with pytest.raises(DataError, match="line 3 has bytes that are not UTF-8"):
        parse_csv(content, TABLE)


@pytest.mark.parametrize("content", [b"", b" \n", b"PK\x03\x04 a workbook"])
def test_what_is_no_csv_is_named(content):
    with pytest.raises(DataError, match=r"labels\.csv.*UTF-8 CSV or Parquet"):
        parse_csv(content, TABLE)


plain = st.text(alphabet="ab 5\"\\'", max_size=6)
cell = st.text(alphabet="ab,;\t|\n\"\\' 5", max_size=6)


def _written(text, quoting, separator):
    if quoting == "none" or (quoting != "all" and not re.search(rf"[\n\"\\{separator}]", text)):
        return text
    if quoting == "escaped":
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return '"' + text.replace('"', '""') + '"'


@given(
    st.data(),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["doubled", "escaped", "all", "none"]),
    st.integers(1, 12),
    st.booleans(),
)
@settings(max_examples=EXAMPLES)
def test_rows_read_are_the_rows_of_the_file_or_a_line_is_named(data, separator, end, quoting, number, report_first):
    """Also for cells that begin or end with quotes and are not quoted at all, as careless exports write them."""
    cells = data.draw(st.lists(plain if quoting == "none" else cell, min_size=number, max_size=number))
    names = ["report", "image", "patient"] if report_first else ["image", "patient", "report"]
    written = [{"image": f"i{row:02d}.png", "patient": f"p{row}", "report": text} for row, text in enumerate(cells)]
    table = [names, *([row[name] for name in names] for row in written)]
    text = end.join(separator.join(_written(text, quoting, separator) for text in row) for row in table) + end
    try:
        header, found, _ = rows(text)
    except DataError as error:
        assert re.search(r"labels\.csv: line \d+", str(error))
        return
    assert header == names
    assert [row[names.index("image")] for row in found] == [row["image"] for row in written]
    if quoting in ("doubled", "all"):
        assert [row[names.index("report")] for row in found] == cells
