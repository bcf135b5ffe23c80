"""`trcgl train` on the command line."""

from pathlib import Path
from typing import Annotated

from trcgl.cli.verb import Chosen, Done, Verb, chosen_recipe


def train(arguments: list[str]) -> Chosen:
    """The command of `trcgl train`, whose flags depend on its recipe."""
    import tyro

    from trcgl.core.recipe import Recipe
    from trcgl.recipes import RECIPES

    name, base, about, example = chosen_recipe(arguments, "trcgl", RECIPES, Recipe)
    settings_of = Annotated[Recipe, tyro.conf.arg(name="")]

    def command(
        dataset: Path, /, *, out: Path, recipe: str = name, synthetic: Path | None = None, settings: settings_of = base
    ) -> Done:
        from trcgl.training import train as stage

        info = stage.train(dataset, settings, out, synthetic)
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


VERB = Verb(
    "Train a classifier into a run folder.",
    "trcgl train nih --recipe nih_mini --model.weights efficientnet_lite0_imagenet.safetensors --out run",
    train,
)
