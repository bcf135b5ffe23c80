import os
import unicodedata

import pytest

from trcgl.core.errors import DataError
from trcgl.predict.inputs import find_files, find_inputs
from trcgl.predict.options import PredictOptions

NFC, NFD = (unicodedata.normalize(form, "Müller.png") for form in ("NFC", "NFD"))


def listed(tmp_path, text, encoding="utf-8", **options):
    (tmp_path / "table.csv").write_bytes(text.encode(encoding))
    found = find_inputs([tmp_path / "table.csv"], PredictOptions(**options))
    return {name: path.relative_to(tmp_path).as_posix() for name, path in found.files.items()}


@pytest.mark.parametrize(
    ("written", "file"), [("img\\a.png", "img/a.png"), (NFC, NFD), ("a.png", "img/a.PNG"), ("./img/a.png", "img/a.png")]
)
def test_a_path_is_found_however_the_table_spells_it(tmp_path, written, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert listed(tmp_path, f"path\n{written}\n") == {written: file}


def test_a_path_that_is_not_found_stays_as_written(tmp_path):
    assert listed(tmp_path, "path\nb.png\n") == {"b.png": "b.png"}


def test_a_path_with_a_comma_is_one_path(tmp_path):
    assert listed(tmp_path, "path\nx,y.png\n") == {"x,y.png": "x,y.png"}


def test_a_column_of_the_table_is_used_only_if_it_is_named(tmp_path):
    assert listed(tmp_path, "path;study;note (a, b, c)\na.png;1;x\na.png;2;y\n") == {"a.png": "a.png"}
    with pytest.raises(DataError, match="two values of 'study'"):
        listed(tmp_path, "path;study\na.png;1\na.png;2\n", study_column="study")


def test_a_missing_column_is_named_with_the_option(tmp_path):
    with pytest.raises(DataError, match=r"'path' is missing; the table has 'file'\. .*--path-column"):
        listed(tmp_path, "file\na.png\n")


def test_another_encoding_is_said(tmp_path, capsys):
    assert listed(tmp_path, "path\nMüller.png\n", "cp1252") == {"Müller.png": "Müller.png"}
    assert "table.csv is not UTF-8 and was read as Windows-1252" in capsys.readouterr().err


def test_no_row_of_a_table_with_stray_quotes_vanishes(tmp_path):
    with pytest.raises(DataError, match=r"table\.csv: line 3"):
        listed(tmp_path, 'path,report\na.png,normal\nb.png,"tip at 5cm\nc.png,normal\n')


def test_pipes_are_skipped_in_folders_and_refused_by_name(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    assert list(find_files([tmp_path])) == ["a.png", "gone.png"]
    with pytest.raises(DataError, match="neither a file nor a folder"):
        find_files([tmp_path / "pipe.png"])


def test_a_name_that_several_files_fit_is_refused_with_that_reason(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").touch()
    (tmp_path / "table.csv").write_text("path\n1.png\n")
    with pytest.raises(DataError, match=r"'1.png': several files fit \(such as a/1.png, b/1.png\)"):
        find_inputs([tmp_path / "table.csv"], PredictOptions())
