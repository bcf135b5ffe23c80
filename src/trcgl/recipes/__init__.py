"""Recipes: functions that return the settings of an experiment. `RECIPES` and `GENERATORS` are the registries."""

from collections.abc import Callable

from trcgl.core.errors import RecipeError
from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.recipe import Recipe
from trcgl.recipes import classifiers, generators

RECIPES: dict[str, Callable[[], Recipe]] = {
    "trcgl": classifiers.trcgl,
    "trcgl_paper": classifiers.trcgl_paper,
    "padchest": classifiers.padchest,
    "padchest_80gb": classifiers.padchest_80gb,
    "padchest_mldecoder": classifiers.padchest_mldecoder,
    "cxr_lt_2026": classifiers.cxr_lt_2026,
    "nih": classifiers.nih,
    "nih_mini": classifiers.nih_mini,
    "chexpert": classifiers.chexpert,
    "mimic_cxr_lt": classifiers.mimic_cxr_lt,
    "vindr": classifiers.vindr,
    "chestmnist": classifiers.chestmnist,
    "phantom": classifiers.phantom,
}
"""Name (`trcgl train --recipe NAME`) to the function that builds the recipe."""

GENERATORS: dict[str, Callable[[], GeneratorRecipe]] = {
    "generator_phantom": generators.generator_phantom,
    "generator_nih_mini": generators.generator_nih_mini,
    "generator_sd15": generators.generator_sd15,
    "generator_sd15_80gb": generators.generator_sd15_80gb,
    "generator_roentgen": generators.generator_roentgen,
}
"""Name (`trcgl train-generator --recipe NAME`) to the function that builds the recipe."""

BUILT_IN = frozenset([*RECIPES, *GENERATORS])
"""Names that cannot be registered."""


def register_recipe(name: str, recipe: Callable[[], Recipe | GeneratorRecipe]) -> None:
    """Make a recipe available as `--recipe NAME`.

        def small() -> Recipe:
            \"\"\"RegNetX-200MF at 128 px.

                trcgl train DATASET --plugin my_recipes.py --recipe small --out RUN
            \"\"\"
            return overridden(RECIPES["trcgl"](), {"model.backbone": "regnetx_002", "model.image_size": 128})

        register_recipe("small", small)

    Args:
        name: any name but that of a built-in recipe.
        recipe: function without arguments; the help shows its docstring, an indented command at its end as example.

    Raises:
        RecipeError: the name is that of a built-in recipe, or the function returns something else.
    """
    if name in BUILT_IN:
        raise RecipeError(f"recipe {name!r} is built in. Register yours under another name.")
    settings = recipe()
    if isinstance(settings, Recipe):
        RECIPES[name] = recipe  # type: ignore[assignment]
    elif isinstance(settings, GeneratorRecipe):
        GENERATORS[name] = recipe  # type: ignore[assignment]
    else:
        raise RecipeError(f"recipe {name!r} returns {type(settings).__name__}, not a Recipe or GeneratorRecipe.")
