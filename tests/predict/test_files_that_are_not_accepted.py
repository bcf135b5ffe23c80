"""Readable files that are no chest radiographs for display: `predict` writes empty scores beside the reason."""

import hashlib
import json
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image
from polars.testing import assert_frame_equal

from tests.imaging.dicom_files import dicom
from tests.model.small_run import study_file, write_run
from trcgl.cli import main as cli
from trcgl.core.errors import DataError, NotAccepted
from trcgl.model.folder import load_model
from trcgl.predict.explain import explain, of_files, open_model
from trcgl.predict.inputs import find_files
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict, predict_to

ONE = PredictOptions(workers=1, batch_size=2)
DIGEST, OTHER, HAND = (hashlib.sha256(uid).hexdigest()[:16] for uid in (b"1.2.7", b"1.2.8", b"1.2.9"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def scans(tmp_path):
    """Studies 7 with two radiographs and a CT image, 8 with a radiograph, 9 with a hand; a blank picture; a text."""
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(study_file(1, 7))
    (folder / "b.dcm").write_bytes(study_file(2, 7, Modality="CT"))
    (folder / "c.dcm").write_bytes(study_file(3, 7))
    (folder / "d.dcm").write_bytes(study_file(4, 8))
    (folder / "e.dcm").write_bytes(study_file(5, 9, BodyPartExamined="HAND"))
    return folder


@pytest.fixture
def mixed(scans):
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(scans / "f.png")
    (scans / "g.txt").write_text("not a radiograph")
    return scans


def scores_of(table):
    return table.select(pl.selectors.starts_with("score/", "positive/"))


def test_refused_files_have_empty_scores_beside_the_reason(run, mixed):
    scores = predict(run, [mixed], ONE)
    table = scores.table
    assert table["image_id"].to_list() == [f"{name}.dcm" for name in "abcde"] + ["f.png"]
    refused = table.filter(pl.col("reason").is_not_null())
    assert refused["image_id"].to_list() == ["b.dcm", "e.dcm", "f.png"]
    assert scores_of(refused).null_count().row(0) == (3,) * scores_of(refused).width
    for row, element, reason in zip(
        refused.iter_rows(named=True),
        ("Modality (0008,0060) is CT", "BodyPartExamined (0018,0015) is HAND", "all pixels have the same gray value"),
        ("modality", "body-part", "blank"),
        strict=True,
    ):
        assert row["reason"].startswith(element) and f"--accept {reason}" in row["reason"]
    assert scores.refused.rows() == refused.select("image_id", "reason").rows()
    assert scores.unreadable["image_id"].to_list() == ["g.txt"]
    assert not scores_of(table.filter(pl.col("reason").is_null())).null_count().sum_horizontal().item()


def test_the_scores_of_other_files_do_not_change(run, scans):
    among = predict(run, [scans], ONE).table.filter(pl.col("reason").is_null())
    for name in ("b.dcm", "e.dcm"):
        (scans / name).unlink()
    assert_frame_equal(predict(run, [scans], ONE).table, among, abs_tol=1e-6)


def test_csv_parquet_and_json_hold_the_same(run, mixed, tmp_path, capsys):
    for ending in ("csv", "parquet", "json"):
        predict_to(tmp_path / f"scores.{ending}", run, [mixed], ONE)
    parquet = pl.read_parquet(tmp_path / "scores.parquet")
    assert parquet.columns[-1] == "reason"
    csv = pl.read_csv(tmp_path / "scores.csv")
    assert csv["reason"].to_list() == parquet["reason"].to_list()
    assert csv["score/Mass"].is_null().to_list() == [False, True, False, False, True, True]
    assert '"' not in (tmp_path / "scores.csv").read_text().splitlines()[0]
    images = json.loads((tmp_path / "scores.json").read_text())["images"]
    assert [image["reason"] for image in images] == parquet["reason"].to_list()
    assert set(images[1]["scores"].values()) == {None} and images[1]["positive"] is None
    assert isinstance(images[0]["positive"], list)


def test_accepted_files_are_scored(run, mixed):
    every = predict(run, [mixed], PredictOptions(workers=1, accept=("blank", "body-part", "modality"))).table
    assert every["reason"].null_count() == 6 and every["score/Mass"].null_count() == 0
    some = predict(run, [mixed], PredictOptions(workers=1, accept=("modality",))).table
    assert some.filter(pl.col("reason").is_not_null())["image_id"].to_list() == ["e.dcm", "f.png"]


@pytest.mark.parametrize("listed", [False, True], ids=["of headers", "of a table"])
def test_a_refused_image_does_not_enter_the_mean_of_its_study(listed, run, scans, tmp_path):
    images = {row["image_id"]: row["score/Mass"] for row in predict(run, [scans], ONE).table.iter_rows(named=True)}
    paths, options, names = [scans], PredictOptions(workers=1, by_study=True), [DIGEST, OTHER, HAND]
    if listed:
        rows = ["path,study", *(f"{name}.dcm,{study}" for name, study in zip("abcde", "77789", strict=True))]
        (tmp_path / "list.csv").write_text("\n".join(rows))
        paths, names = [tmp_path / "list.csv"], ["7", "8", "9"]
        options = PredictOptions(workers=1, study_column="study", root=scans)
    scores = predict(run, paths, options)
    studies = {row["study_id"]: row for row in scores.table.iter_rows(named=True)}
    assert sorted(studies) == sorted(names)
    seven, eight, nine = (studies[name] for name in names)
    assert (seven["images"], seven["image_ids"]) == (2, "a.dcm|c.dcm")
    assert seven["score/Mass"] == pytest.approx((images["a.dcm"] + images["c.dcm"]) / 2, abs=1e-6)
    assert seven["reason"].startswith("b.dcm: Modality (0008,0060) is CT")
    assert eight["reason"] is None and eight["score/Mass"] is not None
    assert (nine["images"], nine["image_ids"], nine["score/Mass"], nine["positive/Mass"]) == (0, "", None, None)
    assert nine["reason"].startswith("e.dcm: BodyPartExamined (0018,0015) is HAND")
    document = {study["study_id"]: study for study in scores.to_dict()["studies"]}
    assert document[names[0]]["image_ids"] == ("a.dcm", "c.dcm") and document[names[2]]["image_ids"] == ()


def test_a_refused_file_without_a_study_keeps_its_reason(run, scans):
    (scans / "b.dcm").write_bytes(study_file(2, 7, Modality="CT", StudyInstanceUID=None))
    scores = predict(run, [scans], PredictOptions(workers=1, by_study=True))
    assert dict(scores.unreadable.rows())["b.dcm"].startswith("Modality (0008,0060) is CT")


def test_identifiers_of_refused_files_are_written(run, scans):
    table = predict(run, [scans], PredictOptions(workers=1, identifiers=True)).table
    assert table["sop_instance_uid"].to_list() == [f"1.2.{study}.1.{image + 1}" for image, study in enumerate("77789")]


def test_no_report_is_written_of_refused_files(run, scans, tmp_path):
    pytest.importorskip("highdicom", reason="DICOM SR needs highdicom")
    _, _, reports = predict_to(tmp_path / "scores.csv", run, [scans], ONE, sr=tmp_path / "sr")
    assert [path.name for path in reports.written] == [f"{name}.dcm.sr.dcm" for name in "acd"] and not reports.failed
    by_study = PredictOptions(workers=1, by_study=True)
    _, _, reports = predict_to(tmp_path / "studies.csv", run, [scans], by_study, sr=tmp_path / "studies")
    assert [path.name for path in reports.written] == [f"{name}.sr.dcm" for name in sorted((DIGEST, OTHER))]


def test_refused_files_are_named_and_counted_on_the_terminal(run, mixed, tmp_path, capsys):
    assert cli.main(["predict", str(run), str(mixed), "--out", str(tmp_path / "scores.csv"), "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "3 images scored, 3 files not accepted, 1 file unreadable" in said.out
    assert "not accepted: e.dcm: BodyPartExamined (0018,0015) is HAND" in said.err
    accepting = ["--accept", "modality", "body-part", "blank"]
    assert cli.main(["predict", str(run), str(mixed), *accepting, "--workers", "1"]) == 0
    assert "not accepted" not in capsys.readouterr().err


def test_a_folder_of_refused_files_alone_gives_a_table_without_scores(run, tmp_path):
    (tmp_path / "ct.dcm").write_bytes(study_file(1, 7, Modality="CT"))
    table = predict(run, [tmp_path], ONE).table
    assert table["image_id"].to_list() == ["ct.dcm"] and table["score/Mass"].to_list() == [None]
    (tmp_path / "ct.dcm").write_text("no image")
    with pytest.raises(DataError, match="not one of 1 files can be read"):
        predict(run, [tmp_path], ONE)


def test_an_interrupted_command_resumes_to_the_same_bytes(run, mixed, tmp_path, monkeypatch):
    from trcgl.model.ensemble import Ensemble

    predict_to(tmp_path / "whole.csv", run, [mixed], ONE)
    score, calls = Ensemble.score, []

    def interrupted(self, *given, **settings):
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(self, *given, **settings)

    monkeypatch.setattr(Ensemble, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_to(tmp_path / "cut.csv", run, [mixed], ONE)
    assert (tmp_path / "cut.csv.partial").exists()
    predict_to(tmp_path / "cut.csv", run, [mixed], ONE)
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def accepting(run, folder, *reasons):
    """A copy of the run whose dataset accepted files of these reasons."""
    shutil.copytree(run, folder)
    info = json.loads((folder / "model" / "model.json").read_text())
    info["preprocessing"]["accept"] = list(reasons)
    (folder / "model" / "model.json").write_text(json.dumps(info))
    return folder


def test_a_model_of_another_modality_scores_it_by_default(run, scans, tmp_path):
    other = accepting(run, tmp_path / "other", "modality")
    assert predict(other, [scans], ONE).refused["image_id"].to_list() == ["e.dcm"]
    assert predict(other, [scans], PredictOptions(workers=1, ensemble=(run,))).refused.height == 2
    assert load_model(other / "model").predict(scans / "b.dcm").scores


def test_a_loaded_model_refuses_with_the_reason(run, scans):
    model = load_model(run / "model")
    with pytest.raises(NotAccepted, match=r"b\.dcm: Modality .*--accept modality") as refused:
        model.predict([scans / "a.dcm", scans / "b.dcm"])
    assert refused.value.reason == "modality"
    assert len(model.predict([scans / "a.dcm", scans / "b.dcm"], accept={"modality"})) == 2


def test_explain_lists_refused_files_and_maps_accepted_files(run, scans, tmp_path):
    model, files = open_model(run), find_files([scans])
    document = explain(model, of_files(model, files), list(files), tmp_path / "out", top=1)
    assert [file["image_id"] for file in document["unreadable"]] == ["b.dcm", "e.dcm"]
    assert "--accept modality" in document["unreadable"][0]["reason"]
    flags = ["--out", str(tmp_path / "all"), "--top", "1", "--accept", "modality", "body-part"]
    assert cli.main(["explain", str(run), str(scans), *flags]) == 0
    assert len(json.loads((tmp_path / "all" / "explanation.json").read_text())["images"]) == 5


def test_raw_detector_values_are_refused_by_intent(run, tmp_path):
    pixels = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    (tmp_path / "raw.dcm").write_bytes(dicom(pixels, PresentationIntentType="FOR PROCESSING"))
    reason = predict(run, [tmp_path], ONE).table["reason"].item()
    assert reason.startswith("PresentationIntentType (0008,0068) is FOR PROCESSING")
    assert predict(run, [tmp_path], PredictOptions(workers=1, accept=("for-processing",))).refused.is_empty()
