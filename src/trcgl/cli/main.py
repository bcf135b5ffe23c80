"""The entry point: `trcgl VERB ...` finds the verb, parses its options and prints its result.

Results go to stdout, as text or with `--json` as one object; progress and messages go to stderr.
"""

import dataclasses
import importlib
import inspect
import io
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_args, get_origin

from trcgl import __version__
from trcgl.cli.verb import Command, Done, Verb, taken, with_new_names
from trcgl.core.errors import Interrupted, TrcglError
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.plugin import load_plugin
from trcgl.core.registry import unknown
from trcgl.core.write_errors import ADVICE, NEVER_A_DEFECT

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry

VERBS: dict[str, Verb] = {
    name: importlib.import_module(f"trcgl.cli.{name.replace('-', '_')}").VERB
    for name in (
        *("demo", "prepare", "describe", "train", "train-generator", "synthesize", "audit", "evaluate", "compare"),
        *("study", "predict", "explain", "export", "serve", "doctor"),
    )
}
"""Name to verb, in the order of a project; the module `trcgl.cli.NAME` defines it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done; 2: the input is wrong; 130 or 143: interrupted; 1: a defect of trcgl.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # paths need not be UTF-8 but must be printable
        sys.stdout.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(overview())
        return 0
    if given[0] == "--version":
        print(f"trcgl {__version__}")
        return 0
    name, rest = given[0], given[1:]
    if name not in VERBS:
        print(f"trcgl: {unknown('verb', name, VERBS)}", file=sys.stderr)
        return 2
    # Worker processes must not import modules from the current folder in place of installed ones.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        with _terminable():
            plugins, options = taken("--plugin", [argument for argument in rest if argument != "--json"])
            for file in plugins:
                load_plugin(Path(file))
            done = _run(name, with_new_names(options))
            print(json.dumps(done.result, indent=2, ensure_ascii=False) if "--json" in rest else done.text, flush=True)
            if done.then:
                done.then()
    except TrcglError as error:
        return _say(name, str(error), 2)
    except (Interrupted, KeyboardInterrupt) as stop:
        number = stop.signal if isinstance(stop, Interrupted) else signal.SIGINT
        return _say(name, str(stop) or "interrupted; the same command again finishes the work.", 128 + number)
    except SystemExit as stop:  # help, or options that cannot be parsed
        return stop.code if isinstance(stop.code, int) else 2
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NEVER_A_DEFECT:
            return _say(name, f"{error.filename or 'a file'}: {error.strerror}. {ADVICE[error.errno]}", 2)
        traceback.print_exc()
        return _say(name, f"this is a defect of trcgl {__version__}; please report the lines above.", 1)
    return 0


def overview() -> str:
    """The text of `trcgl --help`."""
    return "\n".join(
        [
            "Example: trcgl demo",
            "",
            "Train and evaluate classifiers for long-tailed multi-label chest radiographs (TRCGL-Net, arXiv",
            "2607.00975).",
            "",
            *(f"  trcgl {name:<15} {verb.what}" for name, verb in VERBS.items()),
            "",
            "Options of every verb: --help; --json prints the result as one JSON object on stdout; --plugin FILE.py",
            "registers your own heads, losses and recipes. Running the same command again resumes it (explain starts",
            "over). Exit codes: 0 done, 2 wrong input, 130 or 143 interrupted, 1 a defect of trcgl.",
            RESEARCH_USE,
        ]
    )


def _run(name: str, arguments: list[str]) -> Done:
    import tyro

    verb = VERBS[name]
    asks_for_help = any(argument in ("-h", "--help") for argument in arguments)
    command, rest, example = verb.choose(arguments)
    if asks_for_help:
        print(f"Example: {example or verb.example}\n")
    prog = " ".join(["trcgl", name, *arguments[: len(arguments) - len(rest)]])
    return tyro.cli(_with_names(command), prog=prog, args=rest, registry=_registry())


def _with_names(command: Command) -> Command:
    """Show positional arguments by name instead of type, and the fields of a dataclass without a prefix."""
    import tyro

    for name, parameter in inspect.signature(command).parameters.items():
        hint = command.__annotations__[name]
        while get_origin(hint) is Annotated:  # of an earlier call in this process
            hint = get_args(hint)[0]
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            shown = f"{name[:-1].upper()} ..." if get_origin(hint) is tuple else name.upper()
            command.__annotations__[name] = Annotated[_quiet(hint), tyro.conf.arg(metavar=shown)]
        elif dataclasses.is_dataclass(hint) and name != "source":
            command.__annotations__[name] = Annotated[hint, tyro.conf.arg(name="")]
        else:
            command.__annotations__[name] = _quiet(hint, parameter.default)
    command.__doc__ = re.sub(r"\n {9,}", " ", command.__doc__ or "")  # tyro keeps the line breaks of an argument's text
    return command


def _quiet(hint: Any, default: Any = dataclasses.MISSING) -> Any:
    """The type of an option, set to hide a default that is None or empty: the help sentence states its meaning.

    An option whose default is None does not accept None as a value, so that the help shows PATH instead of {None}|PATH.
    """
    import tyro

    def behavior(shown: str) -> str:
        return "" if shown in ("", "''", "None") else f"(default: {shown})"

    quiet = Annotated[hint, tyro.conf.arg(help_behavior_hint=behavior)]
    return Annotated[quiet, tyro.conf.DisallowNone] if default is None else quiet


def _registry() -> "ConstructorRegistry":
    """A rule for tyro that applies `_quiet` to the fields of dataclasses and joins the lines of their help."""
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

    registry = ConstructorRegistry()
    inside: list[StructTypeInfo] = []

    @registry.struct_rule
    def quiet_fields(info: StructTypeInfo) -> StructConstructorSpec | None:
        if inside or not dataclasses.is_dataclass(info.type):
            return None
        inside.append(info)  # so that tyro's own rule answers the next call
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            inside.pop()
        if not isinstance(spec, StructConstructorSpec):
            return None
        return dataclasses.replace(spec, fields=tuple(map(quiet_field, spec.fields)))

    def quiet_field(field: StructFieldSpec) -> StructFieldSpec:
        def joined() -> str:
            text = field.helptext() if callable(field.helptext) else field.helptext
            return " ".join((text or "").split())

        return dataclasses.replace(field, type=_quiet(field.type, field.default), helptext=joined)

    return registry


@contextmanager
def _terminable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that half-written files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted(number, "terminated; the same command again finishes the work.")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(verb: str, message: str, code: int) -> int:
    print(f"trcgl {verb}: {message}", file=sys.stderr)
    return code
