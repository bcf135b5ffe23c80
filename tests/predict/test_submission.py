"""An entry for CXR-LT 2026, from lists in the challenge's format."""

import io
import zipfile

import polars as pl
import pytest

from tests.dataset.source_fixtures import radiograph
from tests.dataset.source_fixtures.cxr_lt_2026 import write_csv
from tests.model.small_run import write_run
from trcgl.cli import main as cli
from trcgl.core.errors import DataError
from trcgl.predict.submission import read_list, submit

IMAGES = ["t2.png", "t0.png", "00000001_000.png"]


@pytest.fixture
def archive(tmp_path):
    for number, (folder, image) in enumerate(zip(("2", "0", "nih"), IMAGES, strict=True)):
        radiograph(tmp_path / "PADCHEST" / folder / image, (40, 40), seed=number, bits=16)
    write_csv(tmp_path / "list.csv", [["ImageID", "PatientID"], *([image, "3.2E+38"] for image in IMAGES)])
    (tmp_path / "Train_CLASS.txt").write_text("Hernia\nMass\nEdema\n")
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "run")


def test_the_zip_has_a_table_in_the_order_of_the_list_and_the_code(run, archive):
    out = archive / "entry.zip"
    command = ["predict", str(run), str(archive / "PADCHEST"), "--list", str(archive / "list.csv")]
    assert cli.main([*command, "--submission", str(out)]) == 0
    with zipfile.ZipFile(out) as entry:
        names = entry.namelist()
        table = pl.read_csv(io.BytesIO(entry.read("submission.csv")))
        readme = entry.read("code/README.md").decode()
    assert [name for name in names if not name.startswith("code/")] == ["submission.csv"]
    assert {"code/README.md", "code/requirements.txt", "code/recipe-1.json"} <= set(names)
    assert "trcgl train" in readme
    assert table.columns == ["ImageID", "Hernia", "Mass", "Edema"]
    assert table["ImageID"].to_list() == IMAGES
    assert all(table[name].is_between(0, 1).all() for name in table.columns[1:])


def test_missing_images_are_named_before_anything_is_scored(archive):
    (archive / "PADCHEST" / "0" / "t0.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images are not below .*, such as t0\.png"):
        read_list(archive / "list.csv", [archive / "PADCHEST"])


def test_an_image_without_a_probability_is_named_with_its_reason(run, archive):
    damaged = archive / "PADCHEST" / "0" / "t0.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    listed = read_list(archive / "list.csv", [archive / "PADCHEST"])
    with pytest.raises(DataError, match=r"1 of 3 images have no probability, such as t0\.png: "):
        submit(archive / "entry.zip", run, listed, [archive / "PADCHEST"])
    assert not (archive / "entry.zip").exists()


def test_a_class_that_the_model_does_not_score_is_named_before_anything_is_scored(run, archive, monkeypatch):
    monkeypatch.setattr("trcgl.predict.submission.predict", lambda *_: pytest.fail("images were scored"))
    (archive / "Train_CLASS.txt").write_text("Hernia\nGoiter\n")
    listed = read_list(archive / "list.csv", [archive / "PADCHEST"])
    with pytest.raises(DataError, match="the model has no finding 'Goiter'"):
        submit(archive / "entry.zip", run, listed, [archive / "PADCHEST"])


def test_the_list_and_the_zip_belong_together(run, archive, capsys):
    assert cli.main(["predict", str(run), str(archive), "--submission", str(archive / "entry.zip")]) == 2
    assert "--list and --submission belong together" in capsys.readouterr().err
