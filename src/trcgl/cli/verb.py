"""What a verb of the command line is, and what several of them share."""

import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trcgl.core.errors import RecipeError


@dataclasses.dataclass(frozen=True)
class Done:
    """What a verb hands back: the object that `--json` prints, and the same in words.

    Args:
        result: the object.
        words: the words.
        then: what is done after they are printed, for a verb that goes on until it is stopped.
    """

    result: dict[str, Any]
    words: str
    then: Callable[[], None] | None = None


Command = Callable[..., Done]
"""A function whose parameters are the flags, and whose docstring is the help."""

Chosen = tuple[Command, list[str], str | None]
"""A command, the arguments that are left for it, and an example that fits better than the verb's own."""


@dataclasses.dataclass(frozen=True)
class Verb:
    """One verb.

    Args:
        what: what it does, in a line.
        example: a command to start from.
        choose: the command for the arguments that follow the verb, what is left of them, and a fitting example.
            Some verbs have other flags for every source or recipe.
    """

    what: str
    example: str
    choose: Callable[[list[str]], Chosen]


def chosen_recipe(
    arguments: list[str], default: str, recipes: dict[str, Any], kind: type
) -> tuple[str, Any, str, str | None]:
    """Name, settings, description and example of the recipe that `--recipe` names."""
    from trcgl.core.recipe import from_json

    name = value_of("--recipe", arguments) or default
    if name in recipes:
        about, _, example = (inspect.getdoc(recipes[name]) or "").partition("\n\n    ")
        return name, recipes[name](), about.replace("\n", "\n    "), example.strip() or None
    if Path(name).is_file():
        return name, from_json(Path(name).read_text(encoding="utf-8"), kind), f"The recipe in {name}.", None
    raise RecipeError(f"unknown recipe {name!r}; there are {', '.join(recipes)}, or the path of a recipe.json.")


def first_line(module: Any) -> str:
    """What a module is, by the first line of its docstring."""
    return (module.__doc__ or "").strip().splitlines()[0]


def value_of(flag: str, arguments: list[str]) -> str | None:
    """The value of a flag that has to be known before the others can be parsed."""
    for index, one in enumerate(arguments):
        if one == flag and index + 1 < len(arguments):
            return arguments[index + 1]
        if one.startswith(f"{flag}="):
            return one.removeprefix(f"{flag}=")
    return None


def say_uncalibrated(folder: Path) -> None:
    """Say on stderr what a model lacks before its evaluation; an exported folder cannot be evaluated itself."""
    own = (folder / "run.json").is_file()
    advice = f"run `trcgl evaluate {folder}` first for both." if own else "both come with the evaluation of its run."
    print(f"not calibrated, no thresholds: {advice}", file=sys.stderr)


RENAMED = {
    "--sampler": "--solver",
    "--train.sampler": "--train.row-sampling",
    "--fit.sampler": "--fit.row-sampling",
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


def plain(command: Command) -> Callable[[list[str]], Chosen]:
    """A verb whose command is always the same."""
    return lambda arguments: (command, arguments, None)
