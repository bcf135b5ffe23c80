"""What `trcgl doctor` tells of a machine."""

import json

from trcgl.core import doctor as module
from trcgl.core.doctor import DICOM_SYNTAXES, doctor


def test_the_doctor_tells_what_a_program_can_read(tmp_path):
    told = json.loads(json.dumps(doctor(tmp_path)))
    assert told["schema"] == "trcgl.doctor/1"
    assert told["cpus"] >= 1
    assert told["disk_free_gib"] > 0
    assert told["decoders"]["PNG"] is True
    assert {f"DICOM {name}" for name in DICOM_SYNTAXES} < set(told["decoders"])


def test_a_missing_decoder_comes_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    told = doctor()
    assert not told["decoders"]["DICOM JPEG lossless"]
    assert any("JPEG lossless" in line and "pip install 'trcgl-net[dicom]'" in line for line in told["advice"])


def test_nothing_that_names_the_machine_or_its_user_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("USER", "somebody-in-particular")
    monkeypatch.setenv("HOSTNAME", "a-ward-of-ours")
    told = json.dumps(doctor(tmp_path))
    assert "somebody-in-particular" not in told
    assert "a-ward-of-ours" not in told
    assert str(tmp_path) not in told
