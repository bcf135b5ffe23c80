"""Write build/commands.md, every help text on one page: `make reference`. The page is not committed."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from trcgl.cli import main as cli
from trcgl.cli.main import VERBS
from trcgl.cli.study import KINDS
from trcgl.dataset.sources import SOURCES

PAGE = Path(__file__).parents[1] / "build" / "commands.md"
WIDTH = 100


def page() -> str:
    """The page, the same on every terminal."""
    parts = [
        "# Commands",
        "Made from `trcgl VERB --help` by `make reference`.",
        _block("trcgl --help"),
    ]
    for verb in VERBS:
        parts.append(f"## {verb}")
        parts += [_block(f"trcgl {line} --help") for line in _variants(verb)]
    return "\n\n".join(parts) + "\n"


def _variants(verb: str) -> Iterator[str]:
    yield verb
    if verb == "prepare":
        yield from (f"prepare {source}" for source in SOURCES)
    if verb == "study":
        yield from (f"study {kind}" for kind in KINDS)


def _block(command: str) -> str:
    printed = io.StringIO()
    terminal = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, terminal), contextlib.redirect_stdout(printed):
        code = cli.main(command.split()[1:])
    assert code == 0, command
    lines = [line.rstrip() for line in printed.getvalue().rstrip().splitlines()]
    return "\n".join(["```console", f"$ {command}", *lines, "```"])


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
