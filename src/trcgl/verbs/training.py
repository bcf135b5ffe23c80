"""`train` and `train-generator`."""

from pathlib import Path
from typing import Annotated

from trcgl.verbs.verb import Command, Done, chosen_recipe


def train(arguments: list[str]) -> tuple[Command, list[str], str | None]:
    """The command for the recipe that `--recipe` names."""
    import tyro

    from trcgl.core.recipe import Recipe
    from trcgl.recipes import RECIPES

    name, base, about, example = chosen_recipe(arguments, "trcgl", RECIPES, Recipe)
    settings_of = Annotated[Recipe, tyro.conf.arg(name="")]

    def command(
        dataset: Path, /, *, out: Path, recipe: str = name, synthetic: Path | None = None, settings: settings_of = base
    ) -> Done:
        from trcgl.model.train import train

        info = train(dataset, settings, out, synthetic)
        best = info.get("best", {})
        chosen = f"best epoch: {best['epoch']} (val mAP {best['val/mAP']:.4f})\n" if best else ""
        return Done(info, f"{chosen}next: trcgl evaluate {out}")

    command.__doc__ = f"""Train a classifier with the recipe {name}; every setting is overridden by its path.

    {about}

    Args:
        dataset: A dataset folder with images.
        out: The run folder to write; new, or an interrupted one of the same recipe.
        recipe: One of {", ".join(RECIPES)}, or the path of a recipe.json.
        synthetic: A folder drawn for this dataset, whose kept images train beside the real ones.
    """
    return command, arguments, example


def train_generator(arguments: list[str]) -> tuple[Command, list[str], str | None]:
    """The command for the recipe that `--recipe` names."""
    import tyro

    from trcgl.core.generator_recipe import GeneratorRecipe
    from trcgl.recipes import GENERATORS

    name, base, about, example = chosen_recipe(arguments, "generator_phantom", GENERATORS, GeneratorRecipe)
    settings_of = Annotated[GeneratorRecipe, tyro.conf.arg(name="")]

    def command(dataset: Path, /, *, out: Path, recipe: str = name, settings: settings_of = base) -> Done:
        from trcgl.generate.train_generator import train_generator

        info = train_generator(dataset, settings, out)
        following = f"next: trcgl synthesize {out} --dataset {dataset} --screener RUN --out SYNTHETIC"
        return Done(info, f"generator: {out} ({info['digest'][:12]})\n{following}" if info else following)

    command.__doc__ = f"""Train a generator with the recipe {name}; every setting is overridden by its path.

    {about}

    Args:
        dataset: A dataset folder with images; only its train patients are shown.
        out: The generator folder to write; new, or an interrupted one of the same recipe.
        recipe: One of {", ".join(GENERATORS)}, or the path of a recipe.json.
    """
    return command, arguments, example
