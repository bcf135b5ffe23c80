"""Local contrast, noise and holes."""

import numpy as np
import pytest
import torch

from tests.official_code import official
from trcgl.core.errors import RecipeError
from trcgl.core.recipe import AugmentRecipe, Recipe
from trcgl.training.augment import augment, sample_parameters
from trcgl.training.check_recipe import check
from trcgl.training.clahe import clahe
from trcgl.training.quality import sample_quality

STILL = {"rotation": 0.0, "translation": 0.0, "scale": 0.0, "brightness": 0.0, "contrast": 0.0}


def changed(image, **settings):
    recipe = AugmentRecipe(**{**STILL, **settings})
    size = len(image)
    return augment(image, sample_parameters(recipe, size, 0, 1), sample_quality(recipe, size, 0, 1))


@pytest.mark.parametrize("case", official("clahe")["cases"], ids=lambda case: str(case["side"]))
def test_clahe_is_that_of_opencv_on_the_lightness_of_a_gray_image(case):
    shape = (1, 1, case["side"], case["side"])
    image, expected = (torch.tensor(list(bytes.fromhex(case[name]))).reshape(shape) for name in ("image", "equalized"))
    found = clahe(image / 255, torch.tensor([case["limit"]])) * 255
    assert (found - image).abs().max() > 20
    assert (found - expected).abs().max() <= 1  # levels: rounding of the way back
    assert (found.round() == expected).float().mean() > 0.95


def test_only_the_chosen_images_are_equalized():
    image = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    image = (image * 255).round() / 255
    same = (changed(image, clahe=0.3) - image).abs().amax((1, 2, 3)) < 1e-5
    assert 0.5 < same.float().mean() < 0.9


def test_noise_has_the_variance_of_some_gray_levels_and_depends_on_the_image_alone():
    image = torch.full((40, 1, 32, 32), 0.5)
    noisy = changed(image, noise=1.0)
    std = noisy.std((1, 2, 3)) * 255
    assert std.min() > 0.9 and std.max() < 5**0.5 * 1.1 and std.max() > 1.8
    recipe = AugmentRecipe(noise=1.0)
    part = sample_quality(recipe, 40, 0, 1).take(np.array([7, 3])).degrade(image[:2])
    torch.testing.assert_close(part, noisy[[7, 3]])
    assert not torch.equal(part[0], part[1])


def test_holes_are_six_black_squares():
    hidden = changed(torch.ones(8, 1, 224, 224), holes=1.0) == 0
    share = hidden.float().mean((1, 2, 3))
    assert share.max() <= 6 * 24**2 / 224**2 + 1e-6
    assert share.max() > 5 * 24**2 / 224**2  # most do not overlap
    assert hidden.sum((2, 3)).amin() >= 24**2


def test_without_these_changes_nothing_is_sampled():
    assert sample_quality(AugmentRecipe(), 8, 0, 1) is None


def test_geometry_and_intensity_change_with_their_probabilities():
    recipe = AugmentRecipe(geometry_probability=0.4, intensity_probability=0.2)
    parameters = sample_parameters(recipe, 4000, 0, 0)
    always = sample_parameters(AugmentRecipe(), 4000, 0, 0)
    moved, lit = parameters.angle != 0, parameters.contrast != 1
    assert moved.float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert lit.float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert torch.equal(moved, parameters.scale != 1) and torch.equal(lit, parameters.brightness != 0)
    assert torch.equal(parameters.angle[moved], always.angle[moved])


def test_contrast_can_leave_black_as_it_is():
    image = torch.full((6, 1, 8, 8), 0.4)
    factor = sample_parameters(AugmentRecipe(**{**STILL, "contrast": 0.2}), 6, 0, 1).contrast
    around_mean, around_black = (changed(image, contrast=0.2, contrast_around=name) for name in ("mean", "black"))
    torch.testing.assert_close(around_mean, image)
    torch.testing.assert_close(around_black, image * factor[:, None, None, None])


def test_a_probability_above_1_is_refused():
    with pytest.raises(RecipeError, match=r"augment\.noise is 1\.5"):
        check(Recipe(augment=AugmentRecipe(noise=1.5)))
