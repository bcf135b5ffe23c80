import dataclasses

import pytest
import timm
import torch
from safetensors.torch import save_file

from trcgl.core.errors import CheckpointError
from trcgl.core.recipe import ModelRecipe
from trcgl.model.backbone import license_of
from trcgl.model.trcgl_net import TrcglNet

RECIPE = ModelRecipe(backbone="convnextv2_atto", image_size=64)


@pytest.fixture
def peer():
    torch.manual_seed(1)
    return timm.create_model("convnextv2_atto", num_classes=7)


def build(path, **changes):
    return TrcglNet(dataclasses.replace(RECIPE, weights=str(path), **changes), 5, torch.eye(5))


def features(network, image):
    with torch.inference_mode():
        return network.eval().norm(network.backbone((image - network.mean) / network.std))


def test_a_local_file_with_another_classifier_starts_the_backbone(tmp_path, peer):
    save_file(peer.state_dict(), tmp_path / "weights.safetensors")
    network = build(tmp_path / "weights.safetensors")
    image = torch.rand(1, 1, 64, 64)
    normalized = (image - network.mean) / network.std
    with torch.inference_mode():
        expected = peer.eval().head.norm(peer.forward_features(normalized))
    torch.testing.assert_close(features(network, image), expected)


def test_a_gray_stem_is_spread_over_three_channels(tmp_path):
    torch.manual_seed(1)
    gray = timm.create_model("convnextv2_atto", num_classes=0, in_chans=1).eval()
    save_file(gray.state_dict(), tmp_path / "gray.safetensors")
    network = build(tmp_path / "gray.safetensors")
    normalized = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        expected = gray.head.norm(gray.forward_features(normalized))
        actual = network.norm(network.backbone(normalized.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_weights_of_another_architecture_are_refused_with_the_first_differences(tmp_path, peer):
    state = peer.state_dict()
    state["stem.0.bias"] = torch.zeros(3)
    state["extra.weight"] = torch.zeros(1)
    del state["stages.0.blocks.0.conv_dw.weight"]
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError) as error:
        build(tmp_path / "weights.safetensors")
    message = str(error.value)
    assert "weights.safetensors" in message
    assert "stages.0.blocks.0.conv_dw.weight is missing" in message
    assert "extra.weight is not part of it" in message
    assert "stem.0.bias is (3,), not (40,)" in message


def test_a_wholly_different_file_lists_only_a_few_differences(tmp_path):
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "resnet.safetensors")
    with pytest.raises(CheckpointError, match=r"and \d+ more") as error:
        build(tmp_path / "resnet.safetensors")
    assert len(str(error.value)) < 800


class _Custom:
    """A class that a pickle may name; reading it would run code."""


@pytest.mark.parametrize("ending", ["pt", "pth", "bin", "ckpt"])
def test_a_pickle_that_needs_a_class_is_refused_with_its_name_and_without_opening_it(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    torch.save({"model": _Custom()}, path)
    with pytest.raises(CheckpointError, match=r"test_backbone\._Custom; reading them would run code.*save_model"):
        build(path)


@pytest.mark.parametrize("ending", ["pt", "pth", "bin", "ckpt"])
def test_a_checkpoint_of_tensors_starts_the_backbone(tmp_path, peer, ending):
    save_file(peer.state_dict(), tmp_path / "weights.safetensors")
    torch.save({"epoch": 3, "state_dict": peer.state_dict()}, tmp_path / f"weights.{ending}")
    image = torch.rand(1, 1, 64, 64)
    expected, actual = (features(build(tmp_path / f"weights.{kind}"), image) for kind in ("safetensors", ending))
    assert torch.equal(actual, expected)


def test_a_pickle_under_a_safetensors_name_is_refused(tmp_path):
    torch.save({"stem.0.bias": torch.zeros(40)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        build(tmp_path / "weights.safetensors")


def test_a_truncated_file_is_refused(tmp_path, peer):
    path = tmp_path / "weights.safetensors"
    save_file(peer.state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        build(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.safetensors: no such weights file"):
        build(tmp_path / "absent.safetensors")


def test_without_the_hub_the_error_says_what_to_try(monkeypatch):
    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no route to the hub")
        return create(name, **options)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"no route to the hub.*--model.weights"):
        build("hub")


def test_the_license_is_that_of_the_weights():
    hub = dataclasses.replace(RECIPE, weights="hub")
    assert license_of(hub) == "cc-by-nc-4.0"
    assert license_of(dataclasses.replace(hub, backbone="resnet18")) == "apache-2.0"
    assert license_of(dataclasses.replace(RECIPE, weights="mine.safetensors")) == "unknown"
    assert license_of(RECIPE) == "none"
