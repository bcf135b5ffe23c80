import numpy as np
import pytest
import torch

from trcgl.core.recipe import AugmentRecipe
from trcgl.model.tensors import at_size, to_unit
from trcgl.training.augment import augment, mixup, sample_parameters, sample_shares

NONE = AugmentRecipe(rotation=0.0, translation=0.0, scale=0.0, brightness=0.0, contrast=0.0)


def picture(batch=4, side=32):
    return torch.rand(batch, 1, side, side, generator=torch.Generator().manual_seed(0))


def changed(image, seed=0, **settings):
    recipe = AugmentRecipe(**{**vars(NONE), **settings})
    return augment(image, sample_parameters(recipe, len(image), seed, 0))


def test_without_any_change_an_image_stays_as_it_is():
    assert torch.allclose(changed(picture()), picture(), atol=1e-5)


def test_parameters_are_a_function_of_seed_and_batch():
    parameters, again, other = (sample_parameters(AugmentRecipe(), 8, 3, number) for number in (5, 5, 6))
    assert torch.equal(parameters.angle, again.angle) and not torch.equal(parameters.angle, other.angle)


def test_a_part_of_a_batch_is_changed_as_within_the_whole():
    recipe = AugmentRecipe(erasing=0.5, horizontal_flip=True)
    parameters = sample_parameters(recipe, 6, 0, 0)
    slots = torch.tensor([4, 1])
    whole = augment(picture(6), parameters)
    assert torch.allclose(augment(picture(6)[slots], parameters.take(slots)), whole[slots], atol=1e-6)


def test_a_quarter_turn_is_counter_clockwise():
    parameters = sample_parameters(NONE, 4, 0, 0)
    parameters.angle.fill_(np.pi / 2)
    assert torch.allclose(augment(picture(), parameters), picture().rot90(1, (2, 3)), atol=1e-4)


def test_a_shift_moves_right_and_down_and_brings_in_black():
    parameters = sample_parameters(NONE, 4, 0, 0)
    parameters.shift_x.fill_(4 / 32)
    parameters.shift_y.fill_(8 / 32)
    moved = augment(picture(), parameters)
    assert torch.allclose(moved[:, :, 8:, 4:], picture()[:, :, :-8, :-4], atol=1e-4)
    assert (moved[:, :, :8] == 0).all() and (moved[:, :, :, :4] == 0).all()


def test_twice_the_scale_shows_the_middle_half():
    parameters = sample_parameters(NONE, 4, 0, 0)
    parameters.scale.fill_(2.0)
    shown = torch.nn.functional.avg_pool2d(augment(picture(), parameters), 2)
    middle = picture()[:, :, 8:24, 8:24]
    assert np.corrcoef(shown.flatten(), middle.flatten())[0, 1] > 0.95


def test_an_image_is_mirrored_only_when_the_recipe_asks():
    image = picture(64)
    pairs = zip(changed(image, horizontal_flip=True), image, strict=True)
    mirrored = [torch.allclose(after, before.flip(2), atol=1e-5) for after, before in pairs]
    assert 16 < sum(mirrored) < 48
    assert torch.allclose(changed(image, seed=1), image, atol=1e-5)


def test_brightness_and_contrast_keep_within_their_ranges():
    image = picture(64) * 0.4 + 0.3
    shift = (changed(image, brightness=0.1) - image).mean((1, 2, 3))
    assert shift.abs().max() <= 0.1 + 1e-5 and shift.std() > 0.02
    spread = changed(image, contrast=0.2).std((1, 2, 3)) / image.std((1, 2, 3))
    assert 0.8 - 1e-4 <= spread.min() < 1 < spread.max() <= 1.2 + 1e-4


def test_erasing_sets_two_to_ten_percent_to_the_mean():
    image = picture(32, 64)
    erased = changed(image, erasing=1.0)
    share = ((erased - image).abs() > 1e-4).float().mean((1, 2, 3))
    assert share.min() > 0.01 and share.max() < 0.12
    assert torch.allclose(changed(image), image, atol=1e-5)


def test_pixels_stay_in_the_unit_range():
    wild = changed(picture(16), rotation=180.0, scale=0.9, translation=0.5, brightness=1.0, contrast=1.0)
    assert wild.min() >= 0 and wild.max() <= 1 and wild.dtype == torch.float32


def test_images_of_the_right_size_are_not_touched_and_others_are_resized_without_aliasing():
    stripes = torch.zeros(1, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    assert at_size(stripes, 64) is stripes
    small = at_size(stripes, 16)
    assert small.shape == (1, 16, 16) and small.dtype == torch.uint8
    assert small.float().mean() == pytest.approx(100, abs=2) and small.float().std() < 12


def test_stored_images_become_one_channel_between_0_and_1():
    unit = to_unit(torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8))
    assert unit.shape == (1, 1, 2, 2) and torch.equal(unit[0, 0], torch.tensor([[0.0, 1.0], [0.2, 0.4]]))


def test_mixup_mixes_images_and_labels_by_the_same_share():
    image, label = picture(3), torch.tensor([[1.0, 0.0], [0.0, float("nan")], [1.0, 1.0]])
    share = torch.tensor([0.75, 0.5, 1.0])
    mixed, target = mixup(image, label, torch.tensor([1, 2, 0]), share)
    assert torch.allclose(mixed[0], 0.75 * image[0] + 0.25 * image[1])
    assert torch.equal(mixed[2], image[2])
    assert target[0, 0] == 0.75 and target[1, 0] == 0.5
    assert target[:, 1].isnan().tolist() == [True, True, False]


def test_shares_of_mixup_depend_on_seed_and_batch_only():
    assert torch.equal(sample_shares(0.4, 64, 1, 5), sample_shares(0.4, 64, 1, 5))
    assert not torch.equal(sample_shares(0.4, 64, 1, 5), sample_shares(0.4, 64, 1, 6))
    shares = sample_shares(0.4, 4000, 0, 0)
    assert shares.min() >= 0 and shares.max() <= 1
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.1)  # of Beta(a, a)
