"""Scoring an exported folder: the same scores, from ONNX Runtime where it is there."""

import shutil
import sys

import numpy as np
import pytest

from trcgl.core.errors import CheckpointError
from trcgl.model.ensemble import load_ensemble

pytest.importorskip("onnx", reason="needs the extra `export`")
pytest.importorskip("onnxruntime", reason="needs the extra `export`")

IMAGES = np.random.default_rng(0).integers(0, 255, (5, 32, 32), dtype=np.uint8)


@pytest.fixture
def export_folder(exported):
    return exported[1]


def engines(models):
    return [member["engine"] for member in models.identity]


@pytest.mark.parametrize("tta", [False, True])
def test_both_engines_give_the_same_scores(evaluated, export_folder, tta):
    eager, graph = load_ensemble([evaluated]), load_ensemble([export_folder], threads=2)
    assert engines(eager) == ["PyTorch"] and engines(graph) == ["ONNX Runtime"]
    pictures = {eager.shapes[0]: IMAGES}
    scores = graph.score(pictures, tta=tta, batch_size=2)
    np.testing.assert_allclose(scores, eager.score(pictures, tta=tta), atol=1e-5)
    assert scores.dtype == np.float32 and not np.array_equal(scores[0], scores[1])


def test_the_graph_is_what_scores(export_folder, monkeypatch):
    member = load_ensemble([export_folder]).members[0]
    monkeypatch.setattr(type(member.network), "forward", None)
    assert np.isfinite(member.score(IMAGES)).all()


def test_an_ensemble_may_have_both(evaluated, export_folder):
    assert engines(load_ensemble([export_folder, evaluated])) == ["ONNX Runtime", "PyTorch"]


def test_without_onnx_runtime_pytorch_scores(export_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # its import fails
    assert engines(load_ensemble([export_folder])) == ["PyTorch"]


def test_a_folder_from_the_hub_has_no_graph_and_pytorch_scores(export_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(export_folder, folder, ignore=shutil.ignore_patterns("model.onnx"))
    assert engines(load_ensemble([folder])) == ["PyTorch"]


def test_another_graph_than_the_folders_is_refused(export_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(export_folder, folder)
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(CheckpointError, match=r"model\.onnx is not the file that model\.json describes"):
        load_ensemble([folder])
