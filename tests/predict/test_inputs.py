import json
import os
import shutil
import unicodedata

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.imaging.dicom_files import dicom
from tests.model.small_run import write_run
from trcgl.core.errors import DataError
from trcgl.predict.inputs import find_files, find_inputs
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict, predict_to

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


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def odd(tmp_path):
    """A radiograph, a blank picture and a CT slice."""
    pixels = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    (tmp_path / "a.dcm").write_bytes(dicom(pixels))
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "c.dcm").write_bytes(dicom(pixels, Modality="CT"))
    return tmp_path


def test_files_that_are_no_radiographs_are_listed_unless_they_are_accepted(run, odd):
    scores = predict(run, [odd], PredictOptions(workers=1))
    assert scores.table["image_id"].to_list() == ["a.dcm"]
    reasons = dict(scores.unreadable.iter_rows())
    assert "--accept blank" in reasons["b.png"] and "--accept modality" in reasons["c.dcm"]
    predict_to(odd / "scores.csv", run, [odd / name for name in ("a.dcm", "b.png", "c.dcm")], PredictOptions(workers=1))
    table = pl.read_csv(odd / "scores.csv")
    assert table["image_id"].to_list() == ["a.dcm", "b.png", "c.dcm"]
    assert table["score/Mass"].is_null().to_list() == [False, True, True] == table["reason"].is_not_null().to_list()
    (odd / "scores.csv").unlink()
    (odd / "scores.csv.unreadable.csv").unlink()
    accepting = predict(run, [odd], PredictOptions(workers=1, accept=("blank", "modality")))
    assert accepting.table["image_id"].to_list() == ["a.dcm", "b.png", "c.dcm"]


def test_a_model_of_another_modality_reads_it_without_being_told(run, odd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "run"
    shutil.copytree(run, folder)
    info = json.loads((folder / "model" / "model.json").read_text())
    info["preprocessing"]["accept"] = ["body-part", "modality"]
    (folder / "model" / "model.json").write_text(json.dumps(info))
    assert predict(folder, [odd], PredictOptions(workers=1)).table["image_id"].to_list() == ["a.dcm", "c.dcm"]
