"""Where a network looked: attention maps, Grad-CAM, and both at the pixels of the radiograph."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.small_dataset import SPACE, small_recipe
from trcgl.core.errors import DataError, RecipeError
from trcgl.imaging.radiograph import fit_square
from trcgl.model.folder import LoadedModel
from trcgl.model.heads import HEADS
from trcgl.model.maps import best_kind, kinds, maps, to_radiograph, to_square
from trcgl.model.trcgl_net import TrcglNet

WITH_ATTENTION = ["trcgl", "csra", "ml_decoder", "query2label", "dualattnet", "clarity"]


def loaded(side=32, **settings):
    """An untrained model of four findings."""
    recipe = small_recipe()
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, image_size=side, **settings))
    torch.manual_seed(0)
    network = TrcglNet(recipe.model, 4, torch.eye(4)).eval()
    info = {"preprocessing": {"image_size": side, "fit": "letterbox"}, "recipe": dataclasses.asdict(recipe)}
    return LoadedModel(network, SPACE, info, None, None, torch.eye(4))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 255, (5, 32, 32), dtype=np.uint8)


def feature_map(model, images):
    with torch.no_grad():
        return model.network.features(torch.from_numpy(images)[:, None].float() / 255)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_one_map_per_image_and_finding_with_one_as_its_maximum(head, images):
    model = loaded(head=head, patch_size=1)
    grid = feature_map(model, images).shape[-2:]
    for kind in kinds(model):
        found = maps(model, images, kind)
        assert found.shape == (5, 4, *grid) and found.dtype == np.float32
        assert found.min() >= 0
        highest = found.max((2, 3))
        assert np.all((highest == 0) | np.isclose(highest, 1)) and np.isclose(highest, 1).any()


def test_the_heads_with_attention_are_known(images):
    assert [head for head in HEADS if "attention" in kinds(loaded(head=head))] == [
        head for head in HEADS if head in WITH_ATTENTION
    ]


def test_attention_is_the_head_s_own_in_units_of_its_maximum(images):
    model = loaded(head="csra", patch_size=1)
    with torch.no_grad():
        own = model.network(torch.from_numpy(images)[:, None].float() / 255).maps
    expected = own / own.amax((2, 3), keepdim=True)
    np.testing.assert_allclose(maps(model, images, "attention"), expected, atol=1e-6)


def test_grad_cam_of_a_linear_head_is_its_weights_times_the_feature_map(images):
    model = loaded(head="linear", patch_size=1)
    feature = feature_map(model, images)
    # The logit is W mean(F) + b, so every α is W / hw, and the division by the maximum takes away hw.
    by_hand = torch.einsum("cd,bdhw->bchw", model.network.head.classifier.weight.detach(), feature).relu()
    highest = by_hand.amax((2, 3), keepdim=True)
    expected = torch.where(highest > 0, by_hand / highest, 0)
    np.testing.assert_allclose(maps(model, images, "grad_cam"), expected, atol=1e-5)


def test_grad_cam_finds_the_one_place_that_speaks_for_a_finding():
    model = loaded(head="linear")
    network = model.network
    with torch.no_grad():
        network.head.classifier.weight.zero_()
        network.head.classifier.weight[1, 3] = 2.0
    network.backbone = network.norm = torch.nn.Identity()
    feature = torch.zeros(1, network.head.classifier.in_features, 4, 4)
    feature[0, 3, 2, 1], feature[0, 3, 0, 0] = 5.0, -7.0
    network.features = lambda image: feature
    found = maps(model, np.zeros((1, 32, 32), np.uint8), "grad_cam")
    expected = np.zeros((4, 4), np.float32)
    expected[2, 1] = 1
    np.testing.assert_allclose(found[0, 1], expected)
    assert not found[0, [0, 2, 3]].any()


@pytest.mark.parametrize(("backbone", "side"), [("test_resnet", 96), ("test_vit", 160)])
def test_grad_cam_has_the_layout_of_the_picture_on_every_kind_of_backbone(backbone, side):
    model = loaded(side=side, backbone=backbone, head="linear", drop_path=0.0)
    with torch.no_grad():
        model.network.head.classifier.weight.normal_(std=1)
    plain = np.zeros((1, side, side), np.uint8)
    changed = plain.copy()
    changed[0, : side // 4, -side // 4 :] = 255  # at the top right
    before, after = (feature_map(model, image) for image in (plain, changed))
    far = (after - before).abs().mean(1)[0]
    row, column = divmod(int(far.argmax()), far.shape[1])
    assert row < far.shape[0] / 2 <= column
    assert maps(model, changed, "grad_cam").shape == (1, 4, *far.shape)


@pytest.mark.parametrize("kind", ["attention", "grad_cam"])
def test_maps_do_not_depend_on_the_batch_nor_on_inference_mode(kind, images):
    model = loaded(patch_size=1)
    whole = maps(model, images, kind)
    with torch.inference_mode():
        np.testing.assert_allclose(maps(model, images, kind, batch_size=2), whole, atol=1e-5)


def test_no_image_has_no_map():
    assert maps(loaded(), np.empty((0, 32, 32), np.uint8), "grad_cam").shape[:2] == (0, 4)


def test_attention_that_no_score_uses_is_not_shown_as_a_reason(images):
    model = loaded(switched_off=("attention",))
    assert kinds(model) == ("grad_cam",)
    with pytest.raises(RecipeError, match="switched off"):
        maps(model, images, "attention")
    faint = loaded(attention_gate=0.001)
    assert best_kind(faint) == "grad_cam" and kinds(faint) == ("grad_cam", "attention")
    assert best_kind(loaded(attention_gate=0.1)) == "attention"
    assert best_kind(loaded(attention_gate=-0.1)) == "grad_cam"  # what attention gathers speaks against the finding


def test_attention_of_a_head_without_any_is_refused(images):
    with pytest.raises(RecipeError, match="the head linear has no attention maps"):
        maps(loaded(head="linear"), images, "attention")


def test_images_of_another_size_are_refused(images):
    with pytest.raises(DataError, match="the model takes 32 x 32"):
        maps(loaded(), images[:, :20], "grad_cam")


def ramp(side, cells):
    """A map whose value at every center is its distance from the left, and from the top, in pixels of the square."""
    centers = (np.arange(cells) + 0.5) * side / cells
    return np.stack([np.tile(centers, (cells, 1)), np.tile(centers[:, None], (1, cells))])


@pytest.mark.parametrize(("rows", "columns"), [(300, 200), (200, 300), (64, 64), (37, 120)])
@pytest.mark.parametrize("fit", ["letterbox", "squash"])
def test_undoing_the_square_is_exact(rows, columns, fit):
    _, placement = fit_square(np.zeros((rows, columns), np.uint8), 64, fit)
    x, y = to_radiograph(ramp(64, 16), (rows, columns), placement, 64)
    at_x = (np.arange(columns) + 0.5) * placement.scale_x + placement.offset_x
    at_y = (np.arange(rows) + 0.5) * placement.scale_y + placement.offset_y
    edge = 64 / 16 / 2  # beyond the outermost centers a map stays as it is
    np.testing.assert_allclose(x, np.tile(at_x.clip(edge, 64 - edge), (rows, 1)), atol=1e-3)
    np.testing.assert_allclose(y, np.tile(at_y.clip(edge, 64 - edge)[:, None], (1, columns)), atol=1e-3)


def test_what_was_bright_in_the_radiograph_is_hot_in_its_map():
    radiograph = np.zeros((120, 60), np.uint8)
    radiograph[90:96, 12:18] = 255
    square, placement = fit_square(radiograph, 40)
    found = to_radiograph(square / 255, radiograph.shape, placement, 40)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert found.shape == (120, 60) and 90 <= row < 96 and 12 <= column < 18


def test_a_larger_square_is_what_torch_interpolates():
    grid = np.random.default_rng(0).random((2, 3, 5, 7)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(grid), (32, 32), mode="bilinear")
    np.testing.assert_allclose(to_square(grid, 32), expected, atol=1e-5)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 50), st.integers(1, 50))
def test_a_map_without_preference_stays_one_and_no_value_leaves_its_range(rows, columns, height, width):
    _, placement = fit_square(np.zeros((height, width), np.uint8), 24)
    np.testing.assert_allclose(to_radiograph(np.ones((rows, columns)), (height, width), placement, 24), 1, atol=1e-6)
    grid = np.random.default_rng(rows).random((rows, columns))
    found = to_radiograph(grid, (height, width), placement, 24)
    assert found.min() >= grid.min() - 1e-6 and found.max() <= grid.max() + 1e-6
