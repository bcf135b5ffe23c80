"""Maps over radiographs as DICOM Secondary Captures."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("highdicom", reason="a Secondary Capture needs highdicom")

import pydicom

from tests.model.small_run import PATIENT, study_file
from trcgl.core.errors import DataError
from trcgl.imaging.file_process import ReadFile
from trcgl.imaging.radiograph import fit_square
from trcgl.predict.map_capture import findings_to_map, map_capture, overlay_picture
from trcgl.predict.report_header import read_header


@pytest.fixture
def header(tmp_path):
    (tmp_path / "a.dcm").write_bytes(study_file(1, 7))
    return read_header(tmp_path / "a.dcm", "a.dcm").header


def captured(header, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    capture = map_capture(header, pixels, description="Grad-CAM: Mass, score 0.512", series="1.2.3", number=4)
    capture.save_as(tmp_path / "map.dcm")
    return pixels, pydicom.dcmread(tmp_path / "map.dcm")


def test_a_capture_belongs_to_the_study_and_says_what_it_shows(header, tmp_path):
    pixels, capture = captured(header, tmp_path)
    assert (capture.pixel_array == pixels).all()
    assert capture.StudyInstanceUID == "1.2.7"
    assert (capture.SeriesInstanceUID, capture.InstanceNumber) == ("1.2.3", 4)
    assert {keyword: capture.get(keyword) for keyword in PATIENT} == PATIENT
    assert capture.ImageComments == "Grad-CAM: Mass, score 0.512"
    assert capture.SeriesDescription == "Research use only. Not a medical device."


def test_a_capture_keeps_to_the_standard(header, tmp_path):
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    captured(header, tmp_path)
    done = subprocess.run([validator, str(tmp_path / "map.dcm")], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr


def test_a_header_that_breaks_the_standard_is_no_defect(header):
    header.PatientSex = "W"
    with pytest.raises(DataError, match="no map, because the patient or study elements break"):
        map_capture(header, np.zeros((9, 9, 3), np.uint8), description="", series="1.2.3", number=1)


def test_positive_findings_come_before_higher_scores():
    scores = np.array([0.9, 0.2, 0.5, 0.3], np.float32)
    assert findings_to_map(scores, [False, True, False, True], 3) == [3, 1, 0]
    assert findings_to_map(scores, [False] * 4, 9) == [0, 2, 3, 1]


def test_the_picture_has_the_map_where_it_is_high_and_a_caption_below(tmp_path):
    gray = np.full((60, 40), 100, np.uint8)
    square, placement = fit_square(gray, 32, "letterbox")
    Image.fromarray(gray).save(tmp_path / "preview.png")
    preview = (tmp_path / "preview.png").read_bytes()
    read = ReadFile((square,), (placement,), (60, 40), "dicom", preview=preview)
    picture = overlay_picture(read, np.array([[1.0, 0.0], [1.0, 0.0]], np.float32), "Grad-CAM: Mass")
    colored = (picture.max(axis=2) != picture.min(axis=2))[:60]
    assert picture.shape[1] == 40 and picture.shape[0] > 60
    assert colored[:, :10].mean() > 0.9 > 0.1 > colored[:, -2:].mean()
    assert picture[60:].max() > 200
