"""`trcgl serve` as a person starts and stops it, and its scores beside those of `trcgl predict`."""

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.imaging.dicom_files import dicom
from tests.model.small_run import study_file, write_run
from tests.serve.serving import Brightness, form, png, request, serving, until, upload
from trcgl.cli import main as cli
from trcgl.predict.predict import predict
from trcgl.serve import engine, schemas

ACROSS_BATCHES = 1e-5
"""How much a score may differ with the number of radiographs that pass the network beside it."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("served") / "run")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Radiographs of several kinds, by path."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    contents = {
        "gray.png": png(90, size=(40, 31)),
        "color.png": png((200, 40, 90, 128), size=(33, 50), mode="RGBA"),
        "deep.dcm": dicom(rng.integers(0, 4096, (50, 44), dtype=np.uint16)),
        "noise.dcm": dicom(rng.integers(0, 256, (32, 32), dtype=np.uint8), bits=8),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {folder / name: content for name, content in contents.items()}


def test_scores_and_calls_are_those_of_predict_for_the_same_file_alone(run, files):
    network = engine.open_network(run)
    alone = {}
    with serving(network, workers=2) as (address, _):
        for path, content in files.items():
            status, _, result = upload(address, content)
            assert status == 200
            alone[path] = {finding["name"]: finding["score"] for finding in result["findings"]}
            row = predict(run, [path]).table.row(0, named=True)
            for finding in result["findings"]:
                assert finding["score"] == row[f"score/{finding['name']}"]
                assert finding["called"] == row[f"positive/{finding['name']}"]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda content: upload(address, content)[2], list(files.values()) * 4))
    for path, result in zip(list(files) * 4, together, strict=True):
        scores = {finding["name"]: finding["score"] for finding in result["findings"]}
        assert scores == pytest.approx(alone[path], abs=ACROSS_BATCHES)
    assert len({tuple(scores.values()) for scores in alone.values()}) == len(files)


def test_every_finding_has_a_map_from_a_trained_network(run, files):
    with serving(engine.open_network(run)) as (address, _):
        card = json.loads(request(address, path="/v1/model")[2])
        status, _, result = upload(address, next(iter(files.values())), query="?maps=true")
    assert status == 200
    assert result["map_kind"] == card["map_kind"]
    assert all(finding["map"].startswith("data:image/png;base64,") for finding in result["findings"])
    assert card["calibrated"]
    assert card["image_size"] == 32


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_verb_says_where_it_listens_answers_and_stops_with_its_children(number, run, tmp_path):
    command = [sys.executable, "-m", "trcgl", "serve", str(run), "--port", "0", "--workers", "1", "--json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background job would ignore it
    ) as server:
        try:
            result = json.loads("".join(iter(server.stdout.readline, "}\n")) + "}")
            assert result["url"] == f"http://127.0.0.1:{result['port']}/"
            address = ("127.0.0.1", result["port"])
            assert upload(address, png(), name="Noether.png")[0] == 200
            damaged = request(address, "POST", "/v1/predict", b"Patient", {"Content-Type": form(b"")[1]})
            assert damaged[0] == 400
            children = _children(server.pid)
            assert children
            server.send_signal(number)
            assert server.wait(120) == 128 + number
            log = server.stderr.read()
        finally:
            server.kill()
    assert "POST /v1/predict 200" in log
    assert "Noether" not in log and "127.0.0.1" not in log and "boundary" not in log
    assert "stopped." in log.splitlines()[-1]
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in children))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # torch makes empty folders


def test_the_verb_receives_studies_beside_the_interface_and_says_where(run, tmp_path):
    pynetdicom = pytest.importorskip("pynetdicom", reason="needs the extra `dicom-node`")
    command = [sys.executable, "-m", "trcgl", "serve", str(run), "--port", "0", "--workers", "1", "--json"]
    command += ["--dicom-port", "0", "--out", str(tmp_path / "out"), "--quiet-seconds", "0.5"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    ) as server:
        try:
            result = json.loads("".join(iter(server.stdout.readline, "}\n")) + "}")
            client = pynetdicom.AE("MODALITY")
            client.add_requested_context("1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.1.2.1")
            association = client.associate("127.0.0.1", result["dicom_port"], ae_title="TRCGL")
            (tmp_path / "1.dcm").write_bytes(study_file(1, 7))
            assert association.send_c_store(tmp_path / "1.dcm").Status == 0
            association.release()
            until(lambda: list((tmp_path / "out").glob("*/scores.json")))
            assert upload(("127.0.0.1", result["port"]), png())[0] == 200
            server.send_signal(signal.SIGTERM)
            assert server.wait(120) == 128 + signal.SIGTERM
            log = server.stderr.read()
        finally:
            server.kill()
    assert "scored: 1 files" in log
    assert "1.2.7" not in log and "Noether" not in log and "MRN" not in log
    assert not list(tmp_path.glob("trcgl-*"))


def test_identifiers_are_in_the_answer_only_where_asked(run):
    network, content = engine.open_network(run), study_file(1, 7)
    with serving(network) as (address, _):
        assert upload(address, content)[2]["identifiers"] is None
    with serving(network, identifiers=True) as (address, _):
        found = upload(address, content)[2]
        assert upload(address, png())[2]["identifiers"] is None
    schemas.Prediction.model_validate(found)
    assert found["identifiers"] == {
        "study_instance_uid": "1.2.7",
        "series_instance_uid": "1.2.7.1",
        "sop_instance_uid": "1.2.7.1.1",
        "accession_number": "ACC-99",
    }


def test_another_body_part_is_refused_unless_it_is_accepted(run):
    network, content = engine.open_network(run), study_file(1, 7, BodyPartExamined="HAND")
    with serving(network) as (address, _):
        status, _, result = upload(address, content)
        assert (status, result["error"]["code"]) == (422, "not_accepted")
        assert "BodyPartExamined" in result["error"]["message"]
        assert "--accept body-part" in result["error"]["message"]
    with serving(network, accept=("body-part",)) as (address, _):
        assert upload(address, content)[0] == 200


def _children(process):
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [int(process) for task in tasks for process in (task / "children").read_text().split()]


def test_a_request_in_work_is_answered_before_the_server_stops():
    network = Brightness()
    with ThreadPoolExecutor(1) as pool:
        with serving(network) as (address, service):
            network.go.clear()
            answered = pool.submit(upload, address, png())
            until(lambda: service.batcher._queue.empty() and service._waiting == 1 and not service.batcher.coming)
            threading.Timer(1.0, network.go.set).start()
        assert answered.result()[0] == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--token-file FILE or TRCGL_TOKEN"),
        (["--port", "70000"], "--port lies between"),
        (["--seconds", "0"], "--seconds 0.0: give a number above 0"),
    ],
)
def test_a_setting_that_cannot_be_is_told_before_anything_is_opened(arguments, message, monkeypatch, capsys):
    monkeypatch.delenv("TRCGL_TOKEN", raising=False)
    assert cli.main(["serve", "gone", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(capsys):
    with serving() as (address, _):
        assert cli.main(["serve", "gone", "--port", str(address[1])]) == 2
    assert f"port {address[1]} cannot be listened on" in capsys.readouterr().err


def test_a_missing_model_is_told_and_the_port_is_free_again(tmp_path, capsys):
    assert cli.main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "model.json" in capsys.readouterr().err
