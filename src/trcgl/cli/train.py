"""The verb `train`."""

from pathlib import Path

from trcgl.cli.verb import Chosen, Done, Verb, chosen_recipe
from trcgl.core.recipe import Recipe
from trcgl.core.registry import installed
from trcgl.recipes import RECIPES


def train(arguments: list[str]) -> Chosen:
    """The command of `trcgl train`, whose options depend on the recipe and the loss."""
    name, base, about, example = chosen_recipe(arguments, "trcgl", RECIPES, Recipe)
    if heads := installed("trcgl.heads"):
        about += f"\n\n    Heads of installed packages for --model.head: {', '.join(heads)}."

    def command(
        dataset: Path, /, *, out: Path, recipe: str = name, synthetic: Path | None = None, settings: Recipe = base
    ) -> Done:
        from trcgl.training import train as stage

        info = stage.train(dataset, settings, out, synthetic)
        best = info.get("best", {})
        epoch = f"best epoch: {best['epoch']} (val mAP {best['val/mAP']:.4f})\n" if best else ""
        return Done(info, f"{epoch}next: trcgl evaluate {out}")

    command.__doc__ = f"""Train a classifier with the recipe {name}. Each setting of the recipe is an option.

    {about}

    Args:
        dataset: Dataset folder with images.
        out: Run folder to write; an interrupted run of the same recipe is resumed.
        recipe: Recipe: {", ".join(RECIPES)}, or the path of a recipe.json.
        synthetic: Folder of synthetic images for this dataset; its kept images are added to the training rows.
    """
    return command, arguments, example


VERB = Verb(
    "Train a classifier into a run folder.",
    "trcgl train nih --recipe nih_mini --model.weights efficientnet_lite0_imagenet.safetensors --out run",
    train,
)
