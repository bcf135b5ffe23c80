"""UIDs and accession numbers in tables of scores, where a user asks for them."""

import polars as pl
import pytest

from tests.model.small_run import study_file, write_run
from tests.serve.serving import png
from trcgl.imaging.identifiers import KEYWORDS
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict, predict_to


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(study_file(1, 7))
    (folder / "b.dcm").write_bytes(study_file(2, 7, AccessionNumber=None))
    (folder / "c.png").write_bytes(png())
    return folder


def test_the_table_holds_them_only_where_asked(run, scans, tmp_path):
    assert not set(predict(run, [scans], PredictOptions(workers=1)).table.columns) & set(KEYWORDS)
    options = PredictOptions(workers=1, identifiers=True)
    scores, _, _ = predict_to(tmp_path / "scores.csv", run, [scans], options)
    table = pl.read_csv(tmp_path / "scores.csv", schema_overrides={"accession_number": pl.String})
    assert table.columns[:5] == ["image_id", *KEYWORDS]
    assert table["sop_instance_uid"].to_list() == ["1.2.7.1.1", "1.2.7.1.2", None]
    assert table["study_instance_uid"].to_list() == ["1.2.7", "1.2.7", None]
    assert table["accession_number"].to_list() == ["ACC-99", None, None]
    assert scores.to_dict()["images"][1]["identifiers"]["series_instance_uid"] == "1.2.7.1"


def test_a_study_holds_each_value_once(run, scans):
    (scans / "c.png").unlink()
    options = PredictOptions(workers=1, identifiers=True, by_study=True)
    row = predict(run, [scans], options).table.row(0, named=True)
    assert row["study_instance_uid"] == "1.2.7"
    assert row["accession_number"] == "ACC-99"
    assert row["sop_instance_uid"] == "1.2.7.1.1|1.2.7.1.2"
