"""The verb `doctor`."""

import json
from pathlib import Path
from typing import Any

from trcgl.cli.verb import Chosen, Done, Verb, chosen_recipe, taken
from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.recipe import Recipe
from trcgl.recipes import GENERATORS, RECIPES


def doctor(arguments: list[str]) -> Chosen:
    """The command of `trcgl doctor`: about the machine, or with `--recipe` about a training on it."""
    names, _ = taken("--recipe", arguments)
    if names:
        return _of_recipe(names[-1], arguments)
    return _of_machine, arguments, None


def _of_machine(*, folder: Path = Path()) -> Done:
    """Check the hardware, Python packages and image decoders of this machine, and print remedies.

    With --recipe NAME instead: what a training with that recipe needs (memory, disk, time, license of its initial
    weights). See `trcgl doctor --recipe NAME --help`.

    Args:
        folder: Folder for datasets and runs; the free space of its disk is reported.
    """
    from trcgl.doctor import doctor as stage

    report = stage.doctor(folder)
    return Done(report, stage.as_text(report))


def _of_recipe(named: str, arguments: list[str]) -> Chosen:
    recipes: dict[str, Any] = {**RECIPES, **GENERATORS}
    name, base, _, _ = chosen_recipe(arguments, named, recipes, _kind(named))

    def command(
        *,
        recipe: str = name,
        dataset: Path | None = None,
        folder: Path = Path(),
        trial: bool = True,
        settings: type(base) = base,  # type: ignore[valid-type]
    ) -> Done:
        from trcgl.doctor import recipe_check as stage

        report = stage.check_recipe(settings, dataset, folder, trial=trial)
        return Done(report, stage.as_text(report))

    command.__doc__ = f"""Estimate what a training with the recipe {name} needs, before hours are spent on it.

    Prints the memory of each device and the GPUs that have it, the disk space, the time on this machine, and the
    license of the initial weights. Each setting of the recipe is an option, as in the training.

    Args:
        recipe: Recipe: {", ".join(recipes)}, or the path of a recipe.json.
        dataset: Dataset folder: for its findings, and for the time of an epoch.
        folder: Folder for the run; the free space of its disk is compared.
        trial: Train on random images for ten seconds to measure the time.
    """
    return command, arguments, f"trcgl doctor --recipe {name} --dataset DATASET"


def _kind(named: str) -> type:
    """Type of a stored recipe: that of a generator has the part `fit`."""
    path = Path(named)
    if named in RECIPES or named in GENERATORS or not path.is_file():
        return Recipe
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return Recipe  # whose reader says what is wrong
    return GeneratorRecipe if isinstance(stored, dict) and "fit" in stored else Recipe


VERB = Verb(
    "Check the hardware, Python packages and image decoders of this machine, and print remedies.",
    "trcgl doctor --folder /data",
    doctor,
)
