"""Recipes are stored whole and read back strictly."""

import dataclasses
import json

import pytest

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import ModelRecipe, Recipe, TrainRecipe, differences, from_json, overridden, to_json


def test_what_is_stored_is_what_is_read():
    recipe = Recipe(seed=3, train=TrainRecipe(epochs=2, devices=2))
    assert from_json(to_json(recipe)) == recipe


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("epochs", "five", r"train\.epochs: 'five' is not int"),
        ("epochs", True, r"train\.epochs: True is not int"),
        ("row_sampling", "random", r"train\.row_sampling: 'random' is not"),
        ("epoch", 5, r"unknown: train\.epoch"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(path, value, why):
    stored = json.loads(to_json(Recipe()))
    stored["train"][path] = value
    with pytest.raises(RecipeError, match=why):
        from_json(json.dumps(stored))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(RecipeError, match="not valid JSON"):
        from_json("{")


def test_differences_name_the_path_and_both_values():
    left = Recipe()
    right = dataclasses.replace(left, train=dataclasses.replace(left.train, epochs=7))
    assert differences(left, right) == ["train.epochs: 30 → 7"]


def test_fields_are_overridden_by_their_paths_and_checked():
    made = overridden(Recipe(), {"train.epochs": 5, "model.switched_off": ("graph",), "seed": 2})
    assert (made.train.epochs, made.model.switched_off, made.seed) == (5, ("graph",), 2)
    assert overridden(Recipe(), {}) == Recipe()
    for changes, why in (
        ({"train.epoch": 5}, r"unknown: train\.epoch"),
        ({"optimizer.rate": 5}, r"unknown: optimizer\.rate"),
        ({"train.epochs": "5"}, r"train\.epochs: '5' is not int"),
        ({"model.switched_off": ("wings",)}, r"model\.switched_off: "),
    ):
        with pytest.raises(RecipeError, match=why):
            overridden(Recipe(), changes)


@pytest.mark.parametrize(
    ("head", "version"), [("csra", "0.2"), ("query2label", "0.2"), ("linear", "official"), ("trcgl", "official")]
)
def test_a_recipe_stored_before_heads_had_versions_has_the_heads_of_then(head, version):
    stored = json.loads(to_json(Recipe(model=ModelRecipe(head=head))))
    del stored["model"]["head_version"]
    assert from_json(json.dumps(stored)).model == ModelRecipe(head=head, head_version=version)
