"""Models on a hub that runs on this machine."""

import socket

import numpy as np
import pytest
from huggingface_hub import constants

import trcgl
from tests.export.fake_hub import serving
from tests.model.small_run import with_backbone, write_model
from trcgl.cli import main as cli
from trcgl.core.errors import CheckpointError
from trcgl.export.export import export, files
from trcgl.export.hub import push
from trcgl.model.hub import pull

MODEL = "hospital/chest"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def exported(tmp_path):
    write_model(tmp_path / "model", with_backbone("test_resnet", "linear"))
    export(tmp_path / "model", tmp_path / "out", onnx=False)
    return tmp_path / "out"


def test_a_pushed_model_is_pulled_and_scores_the_same(hub, exported):
    address = push(exported, MODEL, files(onnx=False))
    assert address == f"{hub.url}/{MODEL}"
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8)
    assert np.array_equal(trcgl.load_model(MODEL)(images), trcgl.load_model(exported)(images))


def test_nothing_but_the_exported_files_leaves_the_machine(hub, exported):
    (exported / "patient.png").write_bytes(b"not for others")
    push(exported, MODEL, files(onnx=False))
    assert sorted(hub.repositories[MODEL]) == sorted(files(onnx=False))
    assert hub.private[MODEL] is True


def test_a_push_deletes_nothing_on_the_hub(hub, exported):
    push(exported, MODEL, files(onnx=False), private=False)
    assert hub.private[MODEL] is False
    hub.repositories[MODEL]["notes.txt"] = b"theirs"
    (exported / "README.md").write_text("changed")
    push(exported, MODEL, files(onnx=False))
    assert hub.repositories[MODEL]["notes.txt"] == b"theirs"
    assert hub.repositories[MODEL]["README.md"] == b"changed"


def test_only_what_pytorch_needs_is_fetched(hub, exported):
    push(exported, MODEL, files(onnx=False))
    assert sorted(path.name for path in pull(MODEL).iterdir()) == ["model.json", "model.safetensors"]


def test_a_model_in_the_cache_needs_no_network(hub, exported, monkeypatch):
    push(exported, MODEL, files(onnx=False))
    pull(MODEL)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")
    assert trcgl.load_model(MODEL).image_size == 32


def test_without_network_the_message_says_what_to_do(hub, exported, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")
    with pytest.raises(CheckpointError, match=r"hospital/chest: no such folder, and the hub .*copy the model folder"):
        trcgl.load_model(MODEL)
    with pytest.raises(CheckpointError, match=r"the hub does not take the model .*check the network"):
        push(exported, MODEL, files(onnx=False))
    assert sorted(path.name for path in exported.iterdir()) == sorted(files(onnx=False))


def test_a_model_that_the_hub_does_not_have_is_an_error_that_names_it(hub):
    with pytest.raises(CheckpointError, match="hospital/chest: no such folder, and the hub does not give such a model"):
        trcgl.load_model(MODEL)


def test_a_repository_of_something_else_is_refused(hub):
    hub.repositories[MODEL] = {"model.json": b"{}", "model.pkl": b"code"}
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not there"):
        trcgl.load_model(MODEL)


def test_a_refused_push_says_why_and_the_folder_stays(hub, exported):
    hub.refuses = True
    with pytest.raises(CheckpointError, match=r"hospital/chest: the hub does not take the model .*hf auth login"):
        push(exported, MODEL, files(onnx=False))
    assert (exported / "model.json").is_file()


def test_a_folder_comes_before_the_hub(hub, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hospital").mkdir()
    exported.rename(tmp_path / MODEL)
    assert trcgl.load_model(MODEL).image_size == 32
    assert not hub.requests


def test_what_is_neither_folder_nor_hub_id_asks_no_hub(hub):
    with pytest.raises(CheckpointError, match="no such file"):
        trcgl.load_model("../hospital/models/chest")
    assert not hub.requests


def test_the_verb_pushes_on_request(hub, exported, tmp_path, capsys):
    assert cli.main(["export", str(exported), "--out", str(tmp_path / "again"), "--no-onnx", "--push", MODEL]) == 0
    assert f"hub: {hub.url}/{MODEL}" in capsys.readouterr().out
    assert sorted(hub.repositories[MODEL]) == sorted(files(onnx=False))


def _closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
