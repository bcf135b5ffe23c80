"""The verb `serve`."""

import sys
from pathlib import Path

from trcgl.cli.verb import Done, plain, say_uncalibrated
from trcgl.core.errors import RecipeError
from trcgl.core.notice import RESEARCH_USE
from trcgl.serve.options import ServeOptions


def serve(run: Path, /, *, options: ServeOptions) -> Done:
    """Serve one model as a page and an HTTP interface, on this machine. No upload is stored.

    Args:
        run: A run folder, or a model folder.
        options: Address and limits.
    """
    try:
        from trcgl.serve.launch import listen
    except ModuleNotFoundError as error:
        raise RecipeError(f"serve needs {error.name}. Run: pip install 'trcgl-net[serve]'") from error

    listening = listen(run, options)
    print(RESEARCH_USE, file=sys.stderr)
    if not listening.service.card["calibrated"]:
        say_uncalibrated(run)
    return Done(listening.to_dict(), f"{listening.url} (Ctrl-C stops)", listening.serve)


VERB = plain(serve, "trcgl serve run")
