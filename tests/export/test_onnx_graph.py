"""Every head, and backbones of four families, as ONNX: the same logits and maps as PyTorch."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import trcgl
from tests.model.small_run import with_backbone, write_model
from trcgl.core.errors import CheckpointError
from trcgl.export import onnx_graph
from trcgl.export.onnx_graph import TOLERANCE, compare, write_onnx
from trcgl.model.folder import load_model
from trcgl.model.heads import HEADS

pytest.importorskip("onnxscript", reason="needs the extra `export`")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")

BACKBONES = {
    "test_resnet": {"output_stride": 8},
    "convnextv2_atto": {"output_stride": 8},
    "test_efficientnet": {"output_stride": 8},
    "test_vit": {},
}
"""Name to settings that give maps of more than one place at 32 pixels."""
SMALLEST = [name for name in BACKBONES if name != "convnextv2_atto"]  # ConvNeXt V2 has no variant for tests
PAIRS = [
    ("convnextv2_atto" if head == "trcgl" else SMALLEST[place % len(SMALLEST)], head)
    for place, head in enumerate(HEADS)
]
OTHERS = [(backbone, head) for backbone in BACKBONES for head in HEADS if (backbone, head) not in PAIRS]


def held_against_pytorch(tmp_path, backbone, head, **settings):
    settings = {**BACKBONES.get(backbone, {}), **settings}
    model = load_model(write_model(tmp_path / "model", with_backbone(backbone, head, **settings)))
    summary = write_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    images = np.random.default_rng(1).integers(0, 255, (5, 32, 32), dtype=np.uint8)
    found = dict(zip(summary["outputs"], session.run(None, {"images": images}), strict=True))
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(images)[:, None] / 255)
    difference = np.abs(found["logits"] - expected.logits.numpy()).max()
    assert difference < TOLERANCE
    assert expected.logits.std(0).min() > 5 * difference  # else a graph that ignores its images would do
    assert ("maps" in found) == (expected.maps is not None)
    if expected.maps is not None:
        assert expected.maps[0, 0].numel() > 1
        assert np.abs(found["maps"] - expected.maps.numpy()).max() < TOLERANCE
    assert summary["parity"]["batches"] == [1, 3, 8]
    assert max(summary["parity"]["largest_difference"].values()) <= TOLERANCE


@pytest.mark.parametrize(("backbone", "head"), PAIRS)
def test_every_head_is_the_same_in_onnx(tmp_path, backbone, head):
    held_against_pytorch(tmp_path, backbone, head)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "head"), OTHERS)
def test_every_head_is_the_same_in_onnx_on_every_backbone(tmp_path, backbone, head):
    held_against_pytorch(tmp_path, backbone, head)


def test_a_pooled_feature_map_is_the_same_in_onnx(tmp_path):
    """3 x 3 cells of equal area over 4 x 4 places, so that cells share places."""
    held_against_pytorch(tmp_path, "test_resnet", "csra", feature_grid=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "head", "settings"),
    [
        ("test_convnext", "trcgl", {"graph": "learned", "output_stride": 16}),
        ("test_convnext", "csra", {"attention_heads": 1, "output_stride": 16}),
        ("test_convnext", "ml_decoder", {"queries": 2, "output_stride": 16}),
    ],
)
def test_settings_of_heads_that_change_the_graph(tmp_path, backbone, head, settings):
    held_against_pytorch(tmp_path, backbone, head, **settings)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model, what `write_onnx` said of it, and the file."""
    folder = tmp_path_factory.mktemp("written")
    model = load_model(write_model(folder / "model", with_backbone("test_resnet", "linear")))
    return model, write_onnx(model, folder / "model.onnx"), folder / "model.onnx"


def test_the_file_says_whose_weights_it_holds_and_what_it_is_for(written):
    model, summary, path = written
    session = onnxruntime.InferenceSession(path)
    notes = session.get_modelmeta().custom_metadata_map
    assert notes["weights_sha256"] == model.info["weights_sha256"]
    assert "Not a medical device" in notes["research_use"]
    assert summary["input"] == {"name": "images", "type": "uint8", "shape": ["batch", 32, 32]}
    assert summary["outputs"] == {"logits": ["batch", 4]}
    assert json.loads(json.dumps(summary)) == summary


def test_the_file_holds_no_path_of_the_machine_that_exported_it(written):
    content = written[2].read_bytes()
    folders = (trcgl.__file__, torch.__file__, __file__)
    assert not [folder for folder in folders if str(Path(folder).parent).encode() in content]
    assert not re.findall(rb'File "[^"]*"|\.py\b', content)


def test_weights_that_one_file_cannot_hold_are_refused(tmp_path, monkeypatch):
    model = load_model(write_model(tmp_path / "model", with_backbone("test_resnet", "linear")))
    monkeypatch.setattr(onnx_graph, "LARGEST", 1000)
    with pytest.raises(CheckpointError, match="too many for one ONNX file"):
        write_onnx(model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


class Off(torch.nn.Module):
    """The network, with its output moved by a little for batches of eight alone."""

    def __init__(self, graph, by):
        super().__init__()
        self.graph, self.by = graph, by

    def forward(self, images):
        (logits,) = self.graph(images)
        return (logits + (self.by if len(images) == 8 else 0.0),)


@pytest.mark.parametrize("by", [1.1e-4, float("nan")])
def test_a_difference_at_one_batch_size_is_found(written, by):
    model, _, path = written
    graph = onnx_graph.Graph(model.network).eval()
    with pytest.raises(CheckpointError, match=r"at batch 8 its logits differ"):
        compare(Off(graph, by), path, 32)
    assert compare(Off(graph, 1e-5), path, 32)["largest_difference"]["logits"] < TOLERANCE


def test_the_folder_may_have_a_name_that_is_not_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    model = load_model(write_model(tmp_path / "model", with_backbone("test_resnet", "linear", output_stride=8)))
    assert write_onnx(model, folder / "model.onnx")["file"] == "model.onnx"
