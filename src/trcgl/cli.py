"""The command line: `trcgl VERB ...`. A verb hands over to the module of its name, imported only when it runs."""

import dataclasses
import json
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from trcgl import __version__
from trcgl.core.errors import Interrupted, RecipeError, TrcglError

NOTICE = "Research use only. Not a medical device."


@dataclasses.dataclass(frozen=True)
class Verb:
    """One verb: what it does in a line, an example, and the function that takes the arguments after it."""

    what: str
    example: str
    run: Callable[[list[str], str], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 2 the input is wrong, 130 or 143 interrupted, 1 a defect of trcgl.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(overview())
        return 0
    if given[0] == "--version":
        print(f"trcgl {__version__}")
        return 0
    name, rest = given[0], given[1:]
    if name not in VERBS:
        print(f"trcgl: unknown verb {name!r}; there are {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    as_json = "--json" in rest
    rest = [one for one in rest if one != "--json"]
    try:
        result = VERBS[name].run(rest, name)
    except TrcglError as error:
        print(f"trcgl {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"trcgl {name}: interrupted; the same command again goes on.", file=sys.stderr)
        return 128 + signal.SIGINT
    except Interrupted as stop:
        print(f"trcgl {name}: {stop}", file=sys.stderr)
        return 128 + stop.signal
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except Exception:
        traceback.print_exc()
        print(f"trcgl {name}: this is a defect of trcgl {__version__}; please report the lines above.", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else _in_words(result))
    return 0


def overview() -> str:
    """What `trcgl --help` prints."""
    lines = [
        "Example: trcgl prepare nih --root NIH --out nih",
        "",
        "Train and judge classifiers for long-tailed multi-label chest radiographs (TRCGL-Net, arXiv 2607.00975).",
        "",
        *(f"  trcgl {name:<10} {verb.what}" for name, verb in VERBS.items()),
        "",
        "Every verb takes --help and --json. The same command again resumes.",
        NOTICE,
    ]
    return "\n".join(lines)


def _prepare(arguments: list[str], verb: str) -> dict[str, Any]:
    import importlib

    import tyro

    from trcgl.data.prepare import PrepareOptions, prepare
    from trcgl.data.sources import SOURCES

    names = ", ".join(SOURCES)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"Example: {VERBS[verb].example}\n\ntrcgl prepare SOURCE --help shows the settings of a source: {names}.")
        raise SystemExit(0)
    source = arguments[0]
    if source not in SOURCES:
        raise RecipeError(f"unknown source {source!r}; there are {names}.")
    source_kind: Any = importlib.import_module(SOURCES[source]).Options

    @dataclasses.dataclass(frozen=True)
    class Arguments:
        out: Path
        """The dataset folder to write; new, or an interrupted one of the same settings."""
        root: Path | None = None
        """Folder of the archive; not needed where the source draws its images."""
        options: Annotated[PrepareOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=PrepareOptions)
        source: source_kind = dataclasses.field(default_factory=source_kind)
        """Settings of this source alone."""

    given = _parse(Arguments, arguments[1:], f"{verb} {source}", VERBS[verb])
    if given.root is None and source != "phantom":
        raise RecipeError(f"--root is missing: the folder of the {source} archive.")
    return prepare(source, given.root, given.out, given.options, given.source)


def _describe(arguments: list[str], verb: str) -> dict[str, Any]:
    import tyro

    from trcgl.data.describe import describe

    @dataclasses.dataclass(frozen=True)
    class Arguments:
        dataset: tyro.conf.Positional[Path]
        """A dataset folder."""
        out: Path | None = None
        """Where the page and the figures go; the dataset folder by default."""

    given = _parse(Arguments, arguments, verb, VERBS[verb])
    return describe(given.dataset, given.out)


def _train(arguments: list[str], verb: str) -> dict[str, Any]:
    import tyro

    from trcgl.core.recipe import Recipe, from_json
    from trcgl.recipes import RECIPES

    name = _value_of("--recipe", arguments) or "trcgl"
    if name in RECIPES:
        base = RECIPES[name]()
    elif Path(name).is_file():
        base = from_json(Path(name).read_text(encoding="utf-8"))
    else:
        raise RecipeError(f"unknown recipe {name!r}; there are {', '.join(RECIPES)}, or the path of a recipe.json.")

    @dataclasses.dataclass(frozen=True)
    class Arguments:
        dataset: tyro.conf.Positional[Path]
        """A dataset folder with images."""
        out: Path
        """The run folder to write, or an interrupted one of the same recipe."""
        settings: Annotated[Recipe, tyro.conf.arg(name="")]
        recipe: str = "trcgl"
        """Name of a recipe, or the path of a recipe.json; every other setting overrides it."""

    given = _parse(Arguments, arguments, verb, VERBS[verb], settings=base)
    from trcgl.model.train import train

    return train(given.dataset, given.settings, given.out)


def _value_of(flag: str, arguments: list[str]) -> str | None:
    """The value of a flag that has to be known before the others can be parsed."""
    for index, one in enumerate(arguments):
        if one == flag and index + 1 < len(arguments):
            return arguments[index + 1]
        if one.startswith(f"{flag}="):
            return one.removeprefix(f"{flag}=")
    return None


def _parse(kind: type, arguments: list[str], verb: str, about: Verb, **settings: Any) -> Any:
    import tyro

    if settings:
        missing = tyro.MISSING_NONPROP
        required = {one.name: missing for one in dataclasses.fields(kind) if one.default is dataclasses.MISSING}
        settings = {"default": kind(**required | settings)}
    return tyro.cli(
        kind,
        **settings,
        prog=f"trcgl {verb}",
        args=arguments,
        description=f"Example: {about.example}\n\n{about.what}\n\n{NOTICE}",
    )


def _in_words(result: dict[str, Any]) -> str:
    """The plain figures of a result, a line each; nested tables stay in the files."""
    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            plain = {one: what for one, what in value.items() if isinstance(what, str | int | float)}
            lines += [f"{name}: {', '.join(f'{one} {what}' for one, what in plain.items())}"] if plain else []
        elif isinstance(value, str | int | float):
            lines.append(f"{name}: {value}")
    return "\n".join(lines)


VERBS: dict[str, Verb] = {
    "prepare": Verb(
        "Turn an archive's label table and radiographs into a dataset folder.",
        "trcgl prepare nih --root NIH --out nih",
        _prepare,
    ),
    "describe": Verb(
        "The long tail of a dataset in numbers and pictures.",
        "trcgl describe nih",
        _describe,
    ),
    "train": Verb(
        "Train a classifier into a run folder.",
        "trcgl train nih --recipe nih_mini --model.weights efficientnet_lite0_imagenet.safetensors --out run",
        _train,
    ),
}
"""Name to verb, in the order of the work."""
