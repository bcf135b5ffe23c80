"""The parts of the command line that several verbs share."""

import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trcgl.core.errors import RecipeError
from trcgl.core.loss_settings import FIELDS_OF_0_1, SETTINGS, settings_class
from trcgl.core.recipe import LossRecipe, Recipe, from_json
from trcgl.core.registry import installed, unknown


@dataclasses.dataclass(frozen=True)
class Done:
    """The result of a verb: `--json` prints `result`, otherwise `text` is printed."""

    result: dict[str, Any]
    text: str
    then: Callable[[], None] | None = None
    """Called after printing, for a verb that runs until it is stopped."""


Command = Callable[..., Done]
"""A function whose parameters are the options, and whose docstring is the help. The fields of a dataclass parameter are
options as well, with the name of the parameter as prefix if it is `source`."""

Chosen = tuple[Command, list[str], str | None]
"""A command, the arguments that remain for it, and an example that fits better than the verb's own."""


@dataclasses.dataclass(frozen=True)
class Verb:
    """One verb of the command line: a line of help, a command to start from, and what it runs."""

    what: str
    example: str
    choose: Callable[[list[str]], Chosen]
    """Chooses the command for the arguments after the verb: options of some verbs depend on the source or recipe."""


def plain(command: Command, example: str) -> Verb:
    """A verb whose command does not depend on its arguments; its line of help is the first of the docstring."""
    return Verb(first_line(command), example, lambda arguments: (command, arguments, None))


def chosen_recipe(
    arguments: list[str], default: str, recipes: dict[str, Any], kind: type
) -> tuple[str, Any, str, str | None]:
    """Name, settings, description and example of the recipe that `--recipe` names.

    With `--loss.name` the settings start from the defaults of that loss, whose options then exist.

    Raises:
        RecipeError: the recipe or the loss is unknown.
    """
    name = [default, *taken("--recipe", arguments)[0]][-1]
    if name in recipes:
        about = inspect.getdoc(recipes[name]) or ""
        first, _, last = about.rpartition("\n\n")
        about, example = (first, last.strip()) if last.strip().startswith("trcgl ") else (about, "")
        recipe, about = recipes[name](), about.replace("\n", "\n    ")
    elif Path(name).is_file():
        recipe, about, example = from_json(Path(name).read_text(encoding="utf-8"), kind), f"The recipe in {name}.", ""
    else:
        raise RecipeError(f"{unknown('recipe', name, recipes)} Or give the path of a recipe.json.")
    losses, _ = taken("--loss.name", arguments)
    if isinstance(recipe, Recipe) and (loss := [recipe.loss.name, *losses][-1]) != recipe.loss.name:
        if settings_class(loss) is None:
            raise RecipeError(unknown("loss.name", loss, [*SETTINGS, *installed("trcgl.losses")]))
        recipe = dataclasses.replace(recipe, loss=LossRecipe(loss, recipe.loss.label_smoothing))
    return name, recipe, about, example or None


def first_line(documented: Any) -> str:
    """The first line of a docstring."""
    return (documented.__doc__ or "").strip().splitlines()[0]


def taken(option: str, arguments: list[str]) -> tuple[list[str], list[str]]:
    """All values of an option that must be known before the others can be parsed, and the arguments without it.

    Raises:
        RecipeError: the last occurrence of the option has no value.
    """
    values, rest, remaining = [], [], iter(arguments)
    for argument in remaining:
        if argument == option:
            values.append(next(remaining, ""))
        elif argument.startswith(f"{option}="):
            values.append(argument.removeprefix(f"{option}="))
        else:
            rest.append(argument)
    if "" in values:
        raise RecipeError(f"{option} needs a value.")
    return values, rest


NEVER_MIRRORED = "--tta: the model was trained without mirror images and has never seen a heart on the right side."


def say_uncalibrated(folder: Path) -> None:
    """Say on stderr that a model has no thresholds or calibration yet, and how it gets them."""
    own = (folder / "run.json").is_file()
    advice = f"run `trcgl evaluate {folder}` first for both." if own else "both come with the evaluation of its run."
    print(f"not calibrated, no thresholds: {advice}", file=sys.stderr)


RENAMED = {
    "--sampler": "--solver",
    "--train.sampler": "--train.row-sampling",
    "--fit.sampler": "--fit.row-sampling",
    **{f"--loss.{name.replace('_', '-')}": f"--loss.settings.{name.replace('_', '-')}" for name in FIELDS_OF_0_1},
}
"""Spelling of an option in 0.1 to its spelling now; the old one is accepted through 0.2."""


def with_new_names(arguments: list[str]) -> list[str]:
    """The arguments with renamed options under their new names; each replacement is reported on stderr."""
    renamed = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        new = RENAMED.get(name.replace("_", "-"))
        if new:
            print(f"{name} is now called {new}; the old name will be removed in 0.3.", file=sys.stderr)
        renamed.append(f"{new}{equals}{value}" if new else argument)
    return renamed
