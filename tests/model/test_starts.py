"""Starts: files with the true names of other projects, and features that equal those of the original code."""

import argparse
import dataclasses
import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from tests.model.small_run import write_run
from trcgl.core.errors import CheckpointError
from trcgl.core.recipe import ModelRecipe, Recipe
from trcgl.model.folder import load_model, save_model
from trcgl.model.starts import open_start
from trcgl.model.trcgl_net import TrcglNet
from trcgl.model.weights_file import read_weights

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def started(backbone, weights, size=32, **settings):
    recipe = ModelRecipe(backbone=backbone, weights=str(weights), image_size=size, head="linear", **settings)
    return TrcglNet(recipe, 3, torch.eye(3)).eval()


def randomized(module):
    """The module with random weights everywhere, as nothing of a trained model is 0 or 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                if name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1):
                    value.uniform_(0.5, 1.5)
                elif value.ndim < 2:
                    value.normal_(std=0.1)
                else:
                    value.normal_(std=(2 / value[0].numel()) ** 0.5)
    return module.eval()


def picture(size):
    return torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(1))


def token_map(tokens, prefix):
    kept = tokens[:, prefix:].transpose(1, 2)
    return kept.unflatten(2, (round(kept.shape[2] ** 0.5), -1))


@pytest.fixture
def xrayvision():
    models = pytest.importorskip("torchxrayvision", reason="torchxrayvision is a development dependency").models
    return models


@pytest.fixture
def densenet(xrayvision):
    return randomized(xrayvision.DenseNet())


def check_densenet(network, densenet, size=64):
    image = picture(size)
    with torch.no_grad():
        expected = torch.relu(densenet.features((2 * image - 1) * 1024))
        actual = network.features(image)
    # The stem adds three channels of the divided weights, which differ in the last bits of a large sum.
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


def test_torchxrayvision_densenet_as_a_whole_pickled_model(tmp_path, densenet):
    torch.save(densenet, tmp_path / "xrv.pt")
    network = started("densenet121", tmp_path / "xrv.pt", 64)
    check_densenet(network, densenet)
    assert network.backbone.loaded.start.kind == "torchxrayvision"
    assert "left out: classifier" in network.backbone.loaded.sentence()
    assert "stem of 1 channel divided over 3" in network.backbone.loaded.sentence()


def test_torchxrayvision_densenet_as_a_state_dict(tmp_path, densenet):
    torch.save(densenet.state_dict(), tmp_path / "xrv.pt")
    check_densenet(started("densenet121", tmp_path / "xrv.pt", 64), densenet)


def test_a_whole_model_in_the_old_format_is_refused_with_a_command_that_converts_it(tmp_path, densenet, monkeypatch):
    torch.save(densenet, tmp_path / "xrv.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="before 1.6; reading it would run code") as error:
        read_weights(tmp_path / "xrv.pt")
    code = str(error.value).split('python -c "')[1].rsplit('"', 1)[0]
    monkeypatch.chdir(tmp_path)
    exec(code)
    check_densenet(started("densenet121", tmp_path / "xrv.safetensors", 64), densenet)


def test_torchxrayvision_resnet(tmp_path):
    models = pytest.importorskip("torchvision").models
    resnet = models.resnet50(num_classes=18)
    resnet.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    randomized(resnet)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    image = picture(64)
    network = started("resnet50", tmp_path / "resnet.pt", 64)
    with torch.no_grad():
        expected = torch.nn.Sequential(*list(resnet.children())[:-2])((2 * image - 1) * 1024)
        actual = network.features(image)
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_model_of_torchxrayvision_keeps_its_pixel_range_when_it_is_stored(tmp_path, densenet):
    torch.save(densenet, tmp_path / "xrv.pt")
    recipe = Recipe(model=ModelRecipe(backbone="densenet121", weights=str(tmp_path / "xrv.pt"), image_size=64))
    network = TrcglNet(recipe.model, 14, torch.eye(14)).eval()
    folder = write_run(tmp_path / "run", thresholds=None)
    space = load_model(folder).space
    network = TrcglNet(recipe.model, len(space.findings), torch.eye(len(space.findings))).eval()
    save_model(
        folder / "model",
        network,
        recipe=recipe,
        space=space,
        preprocessing={"image_size": 64, "fit": "letterbox", "stored_size": 64},
        adjacency=torch.eye(len(space.findings)),
        training_patient_digest="0" * 64,
        license="unknown",
    )
    (tmp_path / "xrv.pt").unlink()
    loaded = load_model(folder)
    check_densenet(loaded.network, densenet)
    assert loaded.info["preprocessing"]["std"] == [1 / 2048] * 3


def test_the_pixel_range_can_be_given(tmp_path, densenet):
    torch.save(densenet, tmp_path / "xrv.pt")
    network = started("densenet121", tmp_path / "xrv.pt", 64, pixel_mean=0.25, pixel_std=0.5)
    assert network.mean.flatten().tolist() == [0.25] * 3 and network.std.flatten().tolist() == [0.5] * 3


@pytest.mark.parametrize(("kind", "timm_name"), [("Dinov2", ""), ("Dinov2WithRegisters", "_reg4")])
def test_dinov2_of_hugging_face(tmp_path, kind, timm_name):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=384, num_attention_heads=6, patch_size=14, image_size=56, layer_norm_eps=1e-6
    )
    original = randomized(getattr(transformers, f"{kind}Model")(config))
    original.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.53] * 3, "image_std": [0.26] * 3})
    )
    (tmp_path / "hf" / "README.md").write_text("---\nlicense: other\nlicense_name: msrla\n---\n# A model\n")
    network = started(f"vit_small_patch14{timm_name}_dinov2", tmp_path / "hf", 56)
    image = picture(56)
    with torch.no_grad():
        tokens = original(((image - 0.53) / 0.26).expand(-1, 3, -1, -1)).last_hidden_state
        actual = network.features(image)
    torch.testing.assert_close(actual, token_map(tokens, 5 if timm_name else 1), **CLOSE)
    assert actual.shape == (2, 384, 4, 4)
    assert network.backbone.loaded.start.license == "other"


def test_another_architecture_than_that_of_the_folder_is_refused_with_its_timm_name(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, patch_size=14)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="give --model.backbone vit_small_patch14_dinov2"):
        started("vit_base_patch14_dinov2", tmp_path, 56)


def test_a_language_model_of_hugging_face_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="model_type is 'bert'"):
        started("vit_base_patch14_dinov2", tmp_path, 56)


def test_vit_of_hugging_face(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, image_size=32, layer_norm_eps=1e-6
    )
    original = randomized(transformers.ViTModel(config))
    original.save_pretrained(tmp_path)
    network = started("vit_tiny_patch16_224", tmp_path, 32)
    image = picture(32)
    with torch.no_grad():
        tokens = original((image - network.mean) / network.std).last_hidden_state
        actual = network.features(image)
    torch.testing.assert_close(actual, token_map(tokens, 1), **CLOSE)


def as_published(state, *, packed):
    """The parameters of an EVA-02 model of timm under the names that EVA-X is distributed with."""
    names = (
        (("mlp.fc1.", "mlp.w12."), ("mlp.fc2.", "mlp.w3."))
        if packed
        else (
            ("mlp.fc1_g.", "mlp.w1."),
            ("mlp.fc1_x.", "mlp.w2."),
            ("mlp.fc2.", "mlp.w3."),
            ("mlp.norm.", "mlp.ffn_ln."),
            ("q_proj.bias", "q_bias"),
            ("v_proj.bias", "v_bias"),
        )
    )
    published = {}
    for name, tensor in state.items():
        for ours, theirs in names:
            name = name.replace(ours, theirs)
        published[name.replace("fc_norm", "norm")] = tensor
    width = state["cls_token"].shape[2]
    pretraining = {"mask_token": torch.zeros(1, 1, width), "lm_head.weight": torch.zeros(8, width)}
    return {**published, **pretraining, "lm_head.bias": torch.zeros(8), "rope.freqs_cos": torch.zeros(196, 64)}


@pytest.mark.parametrize(("size", "width", "heads"), [("tiny", 192, 3), ("base", 768, 12)])
def test_eva_x(tmp_path, size, width, heads):
    separate = {"qkv_fused": False, "scale_mlp": True} if size == "base" else {}
    original = randomized(
        timm.models.eva.Eva(  # the arguments of eva_x.py of the authors
            img_size=224,
            patch_size=16,
            embed_dim=width,
            depth=12,
            num_heads=heads,
            mlp_ratio=4 * 2 / 3,
            swiglu_mlp=True,
            use_rot_pos_emb=True,
            ref_feat_shape=(14, 14),
            num_classes=0,
            **separate,
        )
    )
    torch.save({"model": as_published(original.state_dict(), packed=size == "tiny")}, tmp_path / "eva.pt")
    network = started(f"eva_x_{size}_patch16", tmp_path / "eva.pt", 224)
    image = picture(224)[:1]
    with torch.no_grad():
        tokens = original.forward_features(((image - 0.49185243) / 0.28509309).expand(-1, 3, -1, -1))
        expected = token_map(original.fc_norm(tokens), 1)
        actual = network.features(image)
    torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "convnext_atto"])
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "backbone.", "encoder.", "teacher.backbone.", "visual.trunk.", "model.net.encoder."],
)
def test_prefixes_of_timm_checkpoints(tmp_path, backbone, prefix):
    torch.manual_seed(0)
    size = {"img_size": 32} if "vit" in backbone else {}
    original = timm.create_model(backbone, num_classes=5, **size).eval()
    state = {prefix + name: tensor for name, tensor in original.state_dict().items()}
    state["criterion.weight"] = torch.zeros(3)
    nested = {"state_dict": state, "args": argparse.Namespace(lr=0.1), "epoch": 3}
    if not prefix:
        del state["criterion.weight"]
    torch.save(nested, tmp_path / "weights.pth")
    network = started(backbone, tmp_path / "weights.pth", 32)
    image = picture(32)
    with torch.no_grad():
        expected = original.forward_features((image - network.mean) / network.std)
        expected = token_map(expected, 1) if "vit" in backbone else original.head.norm(expected)
        actual = network.features(image)
    torch.testing.assert_close(actual, expected, **CLOSE)


def test_of_student_and_teacher_the_teacher_is_taken(tmp_path):
    torch.manual_seed(0)
    student, teacher = (timm.create_model("convnext_atto").state_dict() for _ in range(2))
    torch.save({"student": student, "teacher": teacher}, tmp_path / "both.pth")
    network = started("convnext_atto", tmp_path / "both.pth")
    assert torch.equal(network.backbone.body.state_dict()["stem.0.weight"], teacher["stem.0.weight"])
    assert "network under 'teacher'" in network.backbone.loaded.sentence()


def test_position_embeddings_are_resampled_to_the_image_size(tmp_path):
    original = timm.create_model("vit_tiny_patch16_224", img_size=64)
    torch.save(original.state_dict(), tmp_path / "vit.pth")
    network = started("vit_tiny_patch16_224", tmp_path / "vit.pth", 96)
    assert "position embeddings resampled from 4 x 4 to 6 x 6" in network.backbone.loaded.sentence()
    assert network.features(picture(96)).shape == (2, 192, 6, 6)


def test_the_names_of_chexnet_are_read(tmp_path):
    original = timm.create_model("densenet121", num_classes=14)
    state = {}
    for name, tensor in original.state_dict().items():
        for kind in ("norm", "conv"):
            for number in (1, 2):
                name = name.replace(f".{kind}{number}.", f".{kind}.{number}.")
        if not name.endswith("num_batches_tracked"):
            state[f"module.densenet121.{name}"] = tensor
    torch.save({"state_dict": state}, tmp_path / "model.pth.tar", _use_new_zipfile_serialization=False)
    network = started("densenet121", tmp_path / "model.pth.tar", 64)
    expected = original.features.denseblock1.denselayer1.norm1.weight
    assert torch.equal(network.backbone.body.features.denseblock1.denselayer1.norm1.weight, expected)


def test_a_run_starts_another(tmp_path):
    folder = write_run(tmp_path / "run", license="cc-by-nc-4.0")
    before = load_model(folder)
    recipe = before.info["recipe"]["model"]
    network = started(recipe["backbone"], folder, 32, patch_size=recipe["patch_size"])
    image = picture(32)
    with torch.no_grad():
        assert torch.equal(network.features(image), before.network.features(image))
    record = network.backbone.loaded.record()
    assert record["kind"] == "run" and record["license"] == "cc-by-nc-4.0"
    assert record["training_patient_digest"] == "0" * 64


def test_a_run_of_another_backbone_is_refused_with_the_option(tmp_path):
    folder = write_run(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"give --model.backbone"):
        started("resnet18", folder)


def test_an_ensemble_is_refused_with_what_to_give_instead(tmp_path):
    (tmp_path / "ensemble.json").write_text("{}")
    with pytest.raises(CheckpointError, match="Start from one of its runs"):
        started("resnet18", tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is no start"):
        open_start(tmp_path)


def test_an_unknown_parameter_is_refused(tmp_path):
    state = timm.create_model("vit_tiny_patch16_224", img_size=32).state_dict()
    state["blocks.0.ls1.gamma"] = torch.ones(192)
    save_file(state, tmp_path / "vit.safetensors")
    with pytest.raises(CheckpointError, match=r"blocks\.0\.ls1\.gamma is not part of it"):
        started("vit_tiny_patch16_224", tmp_path / "vit.safetensors", 32)
    assert load_file(tmp_path / "vit.safetensors")


def test_recipes_without_a_start_are_normalized_as_before():
    network = started("convnextv2_atto", "none")
    assert network.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert dataclasses.asdict(ModelRecipe())["pixel_mean"] is None
