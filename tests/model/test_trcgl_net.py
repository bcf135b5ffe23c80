import dataclasses

import pytest
import timm
import torch

from tests.training.losses.build import build_loss
from trcgl.core.errors import RecipeError
from trcgl.core.recipe import ModelRecipe
from trcgl.model.label_graph import adjacency
from trcgl.model.trcgl_net import TrcglNet
from trcgl.training.losses.base import masked_mean

ATTO = ModelRecipe(backbone="convnextv2_atto", image_size=64, learn_gates=True)
GRAPH = adjacency(torch.full((5, 5), 0.1), 0.02)


def build(**changes):
    torch.manual_seed(0)
    return TrcglNet(dataclasses.replace(ATTO, **changes), 5, GRAPH)


@pytest.mark.parametrize(
    ("backbone", "size", "grid"),
    [
        ("convnextv2_atto", 64, 2),
        ("resnet18", 64, 2),
        ("mobilenetv3_small_050", 64, 2),
        ("vit_tiny_patch16_224", 64, 4),
        ("swin_tiny_patch4_window7_224", 224, 7),
    ],
)
def test_convolutional_windowed_and_token_backbones_give_maps(backbone, size, grid):
    network = build(backbone=backbone, image_size=size).eval()
    with torch.inference_mode():
        output = network(torch.rand(2, 1, size, size))
    assert output.logits.shape == (2, 5)
    assert output.maps.shape == (2, 5, grid, grid)


@pytest.mark.parametrize("backbone", ["convnextv2_atto", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_no_parameter_is_left_out_of_training(backbone):
    network = build(backbone=backbone)
    (network(torch.rand(2, 1, 64, 64)).logits ** 2).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_the_features_are_those_of_timm_on_the_repeated_and_normalized_image():
    network = build().eval()
    peer = timm.create_model("convnextv2_atto", num_classes=0, global_pool="").eval()
    peer.load_state_dict(
        network.backbone.body.state_dict() | {f"head.norm.{k}": v for k, v in network.norm.state_dict().items()}
    )
    image = torch.rand(2, 1, 64, 64)
    mean, std = (torch.tensor(peer.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        expected = peer((image.repeat(1, 3, 1, 1) - mean) / std)
        actual = network.norm(network.backbone((image - network.mean) / network.std))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("option", "grid"), [({"output_stride": 16}, 4), ({"output_stride": 8}, 8), ({"patch_size": 1}, 8)]
)
def test_a_smaller_stride_or_patch_gives_larger_maps(option, grid):
    with torch.inference_mode():
        assert build(**option).eval()(torch.rand(1, 1, 64, 64)).maps.shape[-1] == grid


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "convnextv2_ato"}, ["convnextv2_ato", "Did you mean convnextv2_atto"]),
        ({"backbone": "densenet121", "output_stride": 8}, ["densenet121", "output_stride not at all"]),
        ({"output_stride": 5}, ["output_stride 5", "output_stride 8, 16, 32"]),
        ({"backbone": "resnet18", "patch_size": 2}, ["resnet18", "patch_size not at all", "output_stride 8, 16, 32"]),
        ({"backbone": "coat_tiny"}, ["coat_tiny", "another backbone"]),
        ({"head": "nope"}, ["nope", "linear, trcgl"]),
    ],
)
def test_what_a_backbone_lacks_is_said_with_what_it_has(changes, words):
    with pytest.raises(RecipeError) as error:
        build(**changes)
    assert all(word in str(error.value) for word in words), str(error.value)


def published() -> ModelRecipe:
    """The network of the paper; the defaults of `ModelRecipe` are its settings."""
    return ModelRecipe(backbone="convnextv2_base", image_size=224)


def test_the_published_network_builds_on_the_meta_device():
    with torch.device("meta"):
        network = TrcglNet(published(), 30, torch.eye(30))
        output = network(torch.empty(2, 1, 224, 224))
    assert output.logits.shape == (2, 30) and output.maps.shape == (2, 30, 7, 7)
    assert network.head.graph.embeddings.shape == (30, 256)
    assert network.head.graph.second.weight.shape == (1024, 256)
    assert 88e6 < sum(parameter.numel() for parameter in network.parameters()) < 91e6


def test_the_published_network_and_loss_take_a_step_on_a_small_backbone():
    torch.manual_seed(0)
    recipe = dataclasses.replace(published(), backbone="convnextv2_atto", image_size=64)
    network = TrcglNet(recipe, 30, torch.eye(30))
    loss = build_loss("published_margin", torch.arange(30) * 40, 1200)
    image, target, known = torch.rand(2, 1, 64, 64), torch.randint(0, 2, (2, 30)).float(), torch.ones(2, 30).bool()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    values = []
    for _ in range(2):
        value = masked_mean(loss(network(image).logits, target), known, torch.ones(2))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[1] < values[0]
    assert network.head.gates() == pytest.approx({"reweighting": 0.05, "attention": 0.1, "graph": 0.05})


def test_eight_images_are_overfitted():
    network = build(reweighting_gate=0.0, attention_gate=0.0, graph_gate=0.0)
    image, target = torch.rand(8, 1, 64, 64), torch.randint(0, 2, (8, 5)).float()
    loss = build_loss("bce", torch.ones(5), 8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(150):
        value = loss(network(image).logits, target).mean()
        if value.item() < 1e-3:
            break
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() < 1e-3
