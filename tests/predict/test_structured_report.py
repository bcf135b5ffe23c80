"""DICOM SR of scores, read back with highdicom's own reader."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

hd = pytest.importorskip("highdicom", reason="DICOM SR needs highdicom")

import pydicom

from tests.dataset.small_dataset import SPACE
from tests.model.small_run import PATIENT, study_file, write_evaluated_ensemble, write_run
from trcgl import __version__
from trcgl.cli import main as cli
from trcgl.core.errors import DataError
from trcgl.core.storage import read_json
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict_to
from trcgl.predict.structured_report import report_path

ONE = PredictOptions(workers=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans" / "sub"
    folder.mkdir(parents=True)
    (folder / "a.dcm").write_bytes(study_file(1, 7))
    (folder / "b.dcm").write_bytes(study_file(2, 7))
    return tmp_path / "scans"


@pytest.fixture
def reported(run, scans, tmp_path):
    return predict_to(tmp_path / "scores.parquet", run, [scans], ONE, sr=tmp_path / "sr")


def texts(content, meaning):
    found = hd.sr.utils.find_content_items(
        content, name=getattr(pydicom.sr.codedict.codes.DCM, meaning), recursive=True
    )
    return {str(item.TextValue) for item in found}


def test_scores_thresholds_and_source_are_read_back(reported, tmp_path):
    scores, _, reports = reported
    assert reports.written == tuple(tmp_path / "sr" / "sub" / f"{name}.dcm.sr.dcm" for name in "ab")
    report = hd.sr.srread(reports.written[0])
    assert isinstance(report, hd.sr.ComprehensiveSR)
    assert isinstance(report.content, hd.sr.MeasurementReport)
    groups = report.content.get_image_measurement_groups()
    assert [group.finding_type.meaning for group in groups] == list(SPACE.findings)
    row = scores.table.row(0, named=True)
    for group in groups:
        finding = group.finding_type.meaning
        (probability,) = group.get_measurements()
        assert (probability.name.meaning, probability.unit.value) == ("Probability", "1")
        assert probability.value == pytest.approx(row[f"score/{finding}"], abs=1e-6)
        (reaches,) = group.get_qualitative_evaluations()
        assert (reaches.value.meaning == "Yes") == row[f"positive/{finding}"]
        (source,) = group.source_images
        assert source.referenced_sop_instance_uid == "1.2.7.1.1"
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == "1.2.7"


def test_patient_and_study_are_those_of_the_source_and_the_document_is_its_own(reported):
    first, second = (hd.sr.srread(path) for path in reported[2].written)
    for keyword, value in PATIENT.items():
        assert first.get(keyword) == value
    assert (first.StudyInstanceUID, first.StudyDate) == ("1.2.7", "20260102")
    assert (first.AccessionNumber, first.StudyDescription) == ("ACC-99", "Thorax pa")
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != "1.2.7.1"


def test_the_model_and_the_research_notice_are_named(reported, run):
    report = hd.sr.srread(reported[2].written[0])
    digest = read_json(run / "model" / "model.json")["weights_sha256"]
    assert texts(report, "AlgorithmName") == {"trcgl small"}
    assert texts(report, "AlgorithmVersion") == {__version__}
    assert f"weights SHA-256 {digest}" in texts(report, "AlgorithmParameters")
    assert texts(report, "Comment") == {"Research use only. Not a medical device."}
    assert report.SeriesDescription == "Research use only. Not a medical device."
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_a_study_has_one_report_of_all_its_views(run, scans, tmp_path):
    options = PredictOptions(by_study=True, workers=1)
    scores, _, reports = predict_to(tmp_path / "scores.csv", run, [scans], options, sr=tmp_path / "sr")
    (written,) = reports.written
    assert written.name == f"{scores.table['study_id'][0]}.sr.dcm"
    group = hd.sr.srread(written).content.get_image_measurement_groups()[0]
    assert [image.referenced_sop_instance_uid for image in group.source_images] == ["1.2.7.1.1", "1.2.7.1.2"]


def test_the_report_of_an_ensemble_names_its_combination(scans, tmp_path):
    ensemble = write_evaluated_ensemble(tmp_path, fusion="max", tta=("flip", "0.9"))
    _, _, reports = predict_to(tmp_path / "s.csv", ensemble, [scans], PredictOptions(workers=1), sr=tmp_path / "sr")
    (written,) = reports.written
    parameters = texts(hd.sr.srread(written), "AlgorithmParameters")
    temperature = read_json(ensemble / "ensemble.json")["temperature"]
    assert "ensemble: weights 0.5, 0.5; copies flip, 0.9" in parameters
    assert f"ensemble: studies max; temperature {temperature:.4g}" in parameters
    assert {"mirror image averaged: yes", "calibrated: yes"} <= parameters


def test_names_in_other_alphabets_survive(run, tmp_path):
    content = study_file(1, 7, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Änne")
    (tmp_path / "a.dcm").write_bytes(content)
    _, _, reports = predict_to(tmp_path / "s.csv", run, [tmp_path / "a.dcm"], ONE, sr=tmp_path / "sr")
    assert hd.sr.srread(reports.written[0]).PatientName == "Müller^Änne"


def test_png_is_refused_before_anything_is_scored(run, scans, tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(scans / "x.png")
    with pytest.raises(DataError, match=r"x\.png: a DICOM SR needs the patient and study of a DICOM file"):
        predict_to(tmp_path / "s.csv", run, [scans], ONE, sr=tmp_path / "sr")
    assert not (tmp_path / "sr").exists()
    assert not list(tmp_path.glob("s.csv*"))


def test_a_folder_that_holds_something_is_refused(run, scans, tmp_path):
    with pytest.raises(DataError, match="is not empty"):
        predict_to(tmp_path / "s.csv", run, [scans], ONE, sr=scans)


def test_a_source_without_the_elements_costs_its_report_and_shows_no_value(run, scans, tmp_path, capsys):
    odd = study_file(3, 8, SeriesInstanceUID=None)
    (scans / "sub" / "odd.dcm").write_bytes(odd)
    bare = pydicom.dcmread(scans / "sub" / "b.dcm")
    for keyword in ("PatientID", "PatientName", "StudyDate", "AccessionNumber"):
        del bare[keyword]
    bare.save_as(scans / "sub" / "b.dcm")
    command = ["predict", str(run), str(scans), "--out", str(tmp_path / "s.csv"), "--sr", str(tmp_path / "sr")]
    assert cli.main([*command, "--workers", "1", "--json"]) == 0
    said = capsys.readouterr()
    reports = json.loads(said.out)["reports"]
    assert len(reports["written"]) == 2
    (failed,) = reports["failed"]
    assert (failed["name"], failed["reason"]) == (
        "sub/odd.dcm",
        "sub/odd.dcm: no SR without SeriesInstanceUID. Export it from the archive again.",
    )
    assert not hd.sr.srread(tmp_path / "sr" / "sub" / "b.dcm.sr.dcm").PatientID
    for text in (said.out, said.err, (tmp_path / "s.csv").read_text()):
        assert not any(secret in text for secret in (*PATIENT.values(), "Noether", "ACC-99", "1.2.7"))


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_elements_that_break_the_standard_cost_their_report_alone_and_nothing_of_them_is_said(run, scans, tmp_path):
    broken = {"PatientID": "MRN-1\\MRN-2", "StudyInstanceUID": "1.2.7\\1.2.8", "SOPInstanceUID": "MRN-4711/x"}
    for keyword, value in broken.items():
        (scans / f"{keyword}.dcm").write_bytes(study_file(3, 8, **{keyword: value}))
    command = ["predict", str(run), str(scans), "--out", str(tmp_path / "s.csv"), "--sr", str(tmp_path / "sr")]
    done = subprocess.run(
        [sys.executable, "-W", "always", "-m", "trcgl", *command, "--workers", "1", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    reports = json.loads(done.stdout)["reports"]
    assert {Path(path).name for path in reports["written"]} >= {"a.dcm.sr.dcm", "b.dcm.sr.dcm"}
    reasons = {report["name"]: report["reason"] for report in reports["failed"]}
    for keyword in ("PatientID", "StudyInstanceUID"):
        assert f"no SR, as {keyword} must not hold a backslash" in reasons[f"{keyword}.dcm"]
    assert not any(secret in done.stdout + done.stderr for secret in ("MRN", "1.2.7", "1.2.8"))


def test_images_of_two_patients_are_never_in_one_report(run, tmp_path):
    (tmp_path / "a.dcm").write_bytes(study_file(1, 7))
    (tmp_path / "b.dcm").write_bytes(study_file(2, 7, PatientID="MRN-42"))
    pl.DataFrame({"path": ["a.dcm", "b.dcm"], "exam": ["E", "E"]}).write_csv(tmp_path / "list.csv")
    options = PredictOptions(study_column="exam", workers=1)
    _, _, reports = predict_to(tmp_path / "s.csv", run, [tmp_path / "list.csv"], options, sr=tmp_path / "sr")
    assert not reports.written
    ((name, reason),) = reports.failed
    assert name == "E"
    assert "several patients" in reason
    assert "MRN" not in reason


@pytest.mark.parametrize("name", ["../../etc/x.dcm", "/etc/x.dcm", "a\nb", "..", ""])
def test_a_report_stays_below_its_folder_whatever_the_name(name, tmp_path):
    path = report_path(tmp_path, name)
    assert path.resolve().is_relative_to(tmp_path)
    assert path != tmp_path
    assert "\n" not in str(path)


def test_a_validator_finds_no_error(reported):
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    done = subprocess.run([validator, str(reported[2].written[0])], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr
