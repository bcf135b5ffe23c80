"""Settings of losses: validated by the loss, and read from recipes of 0.1."""

import json

import pytest

from trcgl.core.errors import RecipeError
from trcgl.core.loss_settings import (
    SETTINGS_OF_0_1,
    AsymmetricSettings,
    ClassBalancedSettings,
    DistributionBalancedSettings,
    FocalSettings,
    LdamSettings,
)
from trcgl.core.recipe import LossRecipe, Recipe, differences, from_json, overridden, to_json

OF_0_1 = {
    "name": "asl",
    "label_smoothing": 0.0,
    "focal_gamma": 5.0,
    "gamma_negative": 3.0,
    "gamma_positive": 0.0,
    "clip": 0.05,
    "beta": 0.9999,
    "max_margin": 0.2,
}


def stored_with(loss):
    return json.dumps({**json.loads(to_json(Recipe())), "loss": loss})


def test_a_recipe_of_0_1_equals_the_same_settings_today():
    recipe = from_json(stored_with(OF_0_1))
    settings = AsymmetricSettings(gamma_negative=3.0, constant_focus=False)
    assert recipe.loss == LossRecipe("asl", settings=settings)
    assert differences(recipe, Recipe(loss=LossRecipe("asl", settings=settings))) == []


@pytest.mark.parametrize(
    ("loss", "before"),
    [
        ("asl", AsymmetricSettings(constant_focus=False)),
        ("distribution_balanced", DistributionBalancedSettings(divide_shift=False, focal_gamma=0.0)),
        ("focal", FocalSettings()),
    ],
)
def test_a_loss_stored_before_it_had_a_setting_is_the_loss_of_then(loss, before):
    stored = {"name": loss, "settings": {name: getattr(before, name) for name in SETTINGS_OF_0_1[loss]}}
    assert from_json(stored_with(stored)).loss.settings == before
    assert from_json(to_json(Recipe(loss=LossRecipe(loss)))).loss == LossRecipe(loss)


def test_a_loss_without_settings_has_its_defaults():
    assert LossRecipe("focal").settings == FocalSettings()
    assert from_json(stored_with({"name": "focal"})).loss == LossRecipe("focal")


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        ({"name": "asl", "settings": {"focal_gamma": 2.0}}, "this loss has gamma_negative, gamma_positive, clip"),
        ({"name": "bce", "settings": {"clip": 0.1}}, "this loss has no settings"),
        ({"name": "asl", "settings": {"clip": "much"}}, r"loss\.settings\.clip: 'much' is not float"),
        ({"name": "class_balanced", "settings": {"beta": 1.0}}, r"loss\.settings\.beta is 1\.0; it must be at least 0"),
        ({"name": "ldam", "settings": {"defer": 1.5}}, r"loss\.settings\.defer is 1\.5; it must be between 0 and 1"),
        ({"name": "ldam", "settings": 3}, r"loss\.settings\..*: expected an object, found 3"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_loss(loss, why):
    with pytest.raises(RecipeError, match=why):
        from_json(stored_with(loss))


def test_settings_of_another_loss_are_refused():
    with pytest.raises(RecipeError, match="focal takes FocalSettings"):
        LossRecipe("focal", settings=LdamSettings())


def test_another_loss_starts_from_its_own_defaults_and_takes_the_paths_of_0_1():
    base = Recipe(loss=LossRecipe("asl", 0.1, AsymmetricSettings(clip=0.2)))
    made = overridden(base, {"loss.name": "class_balanced", "loss.beta": 0.9})
    assert made.loss == LossRecipe("class_balanced", 0.1, ClassBalancedSettings(beta=0.9))
    assert overridden(base, {"loss.settings.clip": 0.1}).loss.settings == AsymmetricSettings(clip=0.1)
    with pytest.raises(RecipeError, match=r"unknown: loss\.settings\.beta; this loss has gamma_negative"):
        overridden(base, {"loss.beta": 0.9})


def test_between_two_losses_only_settings_that_are_no_defaults_differ():
    plain = Recipe()
    ldam = Recipe(loss=LossRecipe("ldam", settings=LdamSettings(max_margin=0.5)))
    assert differences(plain, ldam) == ["loss.name: bce → ldam", "loss.settings.max_margin: default → 0.5"]
    assert differences(ldam, Recipe(loss=LossRecipe("ldam"))) == ["loss.settings.max_margin: 0.5 → 0.2"]
