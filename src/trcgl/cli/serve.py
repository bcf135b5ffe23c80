"""`trcgl serve` on the command line."""

import sys
from pathlib import Path
from typing import Annotated

from trcgl.cli.verb import Chosen, Done, Verb, say_uncalibrated
from trcgl.core.errors import RecipeError
from trcgl.core.notice import RESEARCH_USE

EXAMPLE = "trcgl serve run"


def serve(arguments: list[str]) -> Chosen:
    """The command of `trcgl serve`."""
    import tyro

    from trcgl.serve.options import ServeOptions

    shared = Annotated[ServeOptions, tyro.conf.arg(name="")]
    default = ServeOptions()

    def command(run: Path, /, *, options: shared = default) -> Done:
        try:
            from trcgl.serve.launch import listen
        except ModuleNotFoundError as error:
            raise RecipeError(f"serve needs {error.name}. Run: pip install 'trcgl-net[serve]'") from error

        listening = listen(run, options)
        print(RESEARCH_USE, file=sys.stderr)
        if not listening.service.card["calibrated"]:
            say_uncalibrated(run)
        return Done(listening.to_dict(), f"{listening.url} (Ctrl-C stops)", listening.serve)

    command.__doc__ = """Serve one model as a page and an HTTP interface, on this machine. No upload is stored.

    Args:
        run: A run folder, or a model folder.
    """
    return command, arguments, None


VERB = Verb(
    "Serve one model as a page and an HTTP interface, on this machine.",
    EXAMPLE,
    serve,
)
