"""Recipes that earlier versions stored: names of fields and values of then, as JSON objects of today."""

from collections.abc import Callable, Mapping
from typing import Any

from trcgl.core.loss_settings import FIELDS_OF_0_1, SETTINGS_OF_0_1

Raw = dict[str, Any]
"""A recipe as JSON: part, field, value."""

RENAMED_FIELDS = {"train.sampler": "train.row_sampling", "fit.sampler": "fit.row_sampling"}
"""Path of a field in a recipe.json of an earlier version to its path now."""


_VERSIONED = ("csra", "ml_decoder", "query2label", "ml_gcn")


def _of_a_generator(recipe: Raw) -> bool:
    return "unet" in recipe


def _of_a_base(recipe: Raw) -> bool:
    return _of_a_generator(recipe) and bool(recipe.get("base"))


def _with_vae(recipe: Raw) -> bool:
    return _of_a_generator(recipe) and bool(recipe.get("base") or recipe.get("autoencoder", {}).get("kind") == "vae")


VALUES_BEFORE: Mapping[str, tuple[Any, Callable[[Raw], bool]]] = {
    "model.head_version": ("0.2", lambda recipe: recipe["model"].get("head") in _VERSIONED),
    "train.retrain_sampling": ("class_balanced", lambda recipe: recipe["train"].get("retrain_epochs", 0) != 0),
    "autoencoder.cache_latents": (False, _with_vae),
    "loss.settings.constant_focus": (False, lambda recipe: recipe["loss"].get("name") == "asl"),
    "loss.settings.divide_shift": (False, lambda recipe: recipe["loss"].get("name") == "distribution_balanced"),
    "loss.settings.focal_gamma": (0.0, lambda recipe: recipe["loss"].get("name") == "distribution_balanced"),
    "views": (False, _of_a_generator),
    "autoencoder.keep_scale": (False, _of_a_base),
}
"""Path of a field that was added later, to the value that a stored recipe without it had, and the recipes in which the
field has an effect; all other recipes get the default of today."""


def of_today(recipe: Raw) -> Raw:
    """A copy of a stored recipe with the names of today and with the values that fields added later had before.

    0.1 stored the settings of every loss; those of other losses than the chosen one are dropped.
    """
    recipe = {part: dict(value) if isinstance(value, dict) else value for part, value in recipe.items()}
    for old, new in RENAMED_FIELDS.items():
        (part, before), (_, after) = old.split("."), new.split(".")
        if isinstance(recipe.get(part), dict) and before in recipe[part]:
            recipe[part][after] = recipe[part].pop(before)
    loss = recipe.get("loss")
    if isinstance(loss, dict) and not loss.keys().isdisjoint(FIELDS_OF_0_1):
        flat = {name: loss.pop(name) for name in FIELDS_OF_0_1 & loss.keys()}
        loss["settings"] = {name: flat[name] for name in SETTINGS_OF_0_1.get(str(loss.get("name")), ()) if name in flat}
    for path, (value, has_effect) in VALUES_BEFORE.items():
        *parts, name = path.split(".")
        parent: Any = recipe
        for part in parts:
            parent = parent.get(part) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and name not in parent and has_effect(recipe):
            parent[name] = value
    return recipe
