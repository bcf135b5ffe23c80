"""The report of `trcgl doctor` on a machine."""

import json
from collections import namedtuple

import numpy as np
import pytest

from trcgl.cli import main as cli
from trcgl.core import machine
from trcgl.core.errors import DataError
from trcgl.doctor import doctor as module
from trcgl.doctor.doctor import DICOM_SYNTAXES, EXTRAS, as_text, doctor
from trcgl.imaging import dicom_frame


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return json.loads(json.dumps(doctor(tmp_path_factory.mktemp("here") / "not yet")))


@pytest.fixture
def quick(monkeypatch):
    """Without reading a file of each kind."""
    monkeypatch.setattr(module, "decoders", lambda: {"PNG": True, "DICOM RLE": False, "DICOM JPEG lossless": False})


def check(report, what):
    return next(check for check in report["checks"] if check["what"] == what)


def test_the_report_covers_the_machine(report):
    assert report["schema"] == "trcgl.doctor/1"
    assert report["cpus"] >= 1
    assert report["memory_gib"] > 0
    assert report["disk_free_gib"] > 0 and report["disk_writable"]
    assert report["limits"]["bytes"] == 256 * 2**20
    assert {check["status"] for check in report["checks"]} <= {"ok", "missing", "note"}
    assert all(check["advice"] for check in report["checks"] if check["status"] == "missing")


def test_a_file_of_every_kind_is_read(report):
    assert {f"DICOM {name}" for name in DICOM_SYNTAXES} < set(report["decoders"])
    assert all(report["decoders"].values())


def test_a_decoder_that_gives_wrong_pixels_is_missing(monkeypatch):
    monkeypatch.setattr(dicom_frame._gdcm, "pixels", lambda *_: np.eye(16, dtype=np.uint16))
    assert not module.decoders()["DICOM JPEG lossless"]


def test_a_decoder_that_cannot_be_started_is_missing(monkeypatch):
    def fails(*_):
        raise DataError("a process for decoding cannot be started")

    monkeypatch.setattr(dicom_frame._gdcm, "pixels", fails)
    assert not module.decoders()["DICOM JPEG lossless"]


def test_a_missing_decoder_comes_with_the_command_that_adds_it(quick):
    report = doctor()
    assert check(report, "DICOM RLE")["status"] == "missing"
    assert "DICOM RLE, DICOM JPEG lossless: pip install 'trcgl-net[dicom]'" in report["advice"]


def test_an_extra_that_is_not_there_comes_with_its_command(quick, monkeypatch):
    versions = module.metadata.version
    monkeypatch.setattr(module.metadata, "version", lambda name: "0.1" if name == "onnx" else versions(name))
    line = check(doctor(), "extra export")
    assert line["status"] == "missing" and "onnx>=" in line["found"]
    assert line["advice"] == "pip install 'trcgl-net[export]'"


def test_every_extra_of_the_package_is_known():
    assert set(EXTRAS) == set(module.metadata.metadata("trcgl-net").get_all("Provides-Extra"))


def test_the_advice_for_a_gpu_without_bfloat16_is_a_precision(quick, monkeypatch):
    gpu = {"name": "Old", "memory_gib": 8.0, "memory_free_gib": 7.5, "capability": "7.0"}
    for precisions, status in ((["32-true", "16-mixed"], "note"), (["32-true", "bf16-mixed", "16-mixed"], "ok")):
        monkeypatch.setattr(module, "gpus", lambda precisions=precisions: [{**gpu, "precisions": precisions}])
        line = check(doctor(), "GPU 0")
        assert line["status"] == status
        assert ("--train.precision 16-mixed" in line["advice"]) == (status == "note")


def test_the_limits_of_a_container_are_reported(quick, monkeypatch):
    files = {"cpu.max": "100000 100000", "memory.max": str(2 * 2**30)}
    monkeypatch.setattr(machine, "_control_group", files.__getitem__)
    report = doctor()
    assert report["cpus"] == 1
    assert report["memory_gib"] == 2.0
    assert "--train.batch-size" in check(report, "memory")["advice"]


def test_a_full_disk_is_a_note(quick, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")(2**30, 2**30, 0)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: usage)
    assert check(doctor(tmp_path), "disk")["status"] == "note"


def test_a_file_in_the_place_of_the_folder_is_reported(quick, tmp_path):
    (tmp_path / "file").touch()
    assert check(doctor(tmp_path / "file"), "disk")["status"] == "missing"


def test_an_offline_hub_is_a_note_that_says_how_to_go_online(quick, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = check(doctor(), "hub")
    assert line["status"] == "note" and "HF_HUB_OFFLINE" in line["advice"]


def test_the_verb_prints_a_line_of_each_and_exits_with_0(quick, capsys, tmp_path):
    assert cli.main(["doctor", "--folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["ok", "CPUs"] for line in lines)
    assert "to do, if you need it:" in lines
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "trcgl.doctor/1"


def test_the_report_does_not_name_the_machine_or_its_user(quick, monkeypatch, tmp_path):
    monkeypatch.setenv("USER", "somebody-in-particular")
    monkeypatch.setenv("HOSTNAME", "a-ward-of-ours")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    report = doctor(tmp_path)
    for text in (json.dumps(report), as_text(report)):
        assert "somebody-in-particular" not in text
        assert "a-ward-of-ours" not in text
        assert str(tmp_path) not in text
