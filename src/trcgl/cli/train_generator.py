"""The verb `train-generator`."""

from pathlib import Path

from trcgl.cli.verb import Chosen, Done, Verb, chosen_recipe
from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.recipes import GENERATORS


def train_generator(arguments: list[str]) -> Chosen:
    """The command of `trcgl train-generator`, whose flags depend on the recipe."""
    name, base, about, example = chosen_recipe(arguments, "generator_phantom", GENERATORS, GeneratorRecipe)

    def command(dataset: Path, /, *, out: Path, recipe: str = name, settings: GeneratorRecipe = base) -> Done:
        from trcgl.generate import train_generator as stage

        info = stage.train_generator(dataset, settings, out)
        following = f"next: trcgl synthesize {out} --dataset {dataset} --screener RUN --out SYNTHETIC"
        return Done(info, f"generator: {out} ({info['digest'][:12]})\n{following}" if info else following)

    command.__doc__ = f"""Train a generator with the recipe {name}. Each setting of the recipe is an option.

    {about}

    Args:
        dataset: Dataset folder with images; the generator is trained on its train patients only.
        out: Generator folder to write; an interrupted training with the same recipe is resumed.
        recipe: Recipe: {", ".join(GENERATORS)}, or the path of a recipe.json.
    """
    return command, arguments, example


VERB = Verb(
    "Train a diffusion model that generates radiographs with given findings.",
    "trcgl train-generator phantom --recipe generator_phantom --out generator",
    train_generator,
)
