"""The verb `serve`."""

import sys
from pathlib import Path

from trcgl.cli.verb import Done, plain, say_uncalibrated
from trcgl.core.errors import RecipeError
from trcgl.core.notice import RESEARCH_USE
from trcgl.serve.options import NodeOptions, ServeOptions


def serve(run: Path, /, *, options: ServeOptions, node: NodeOptions) -> Done:
    """Serve a model as a page and an HTTP interface, and score studies that arrive by DICOM or in a folder.

    Args:
        run: A run folder, a model folder, or an ensemble folder of `trcgl evaluate RUN RUN --out`.
        options: Address and limits.
        node: Studies that arrive and where their answers go.
    """
    try:
        from trcgl.serve.launch import listen
    except ModuleNotFoundError as error:
        raise RecipeError(f"serve needs {error.name}. Run: pip install 'trcgl-net[serve]'") from error

    listening = listen(run, options, node)
    print(RESEARCH_USE, file=sys.stderr)
    if not listening.service.card["calibrated"]:
        say_uncalibrated(run)
    port = listening.node.dicom_port if listening.node else None
    dicom = "" if port is None else f"DICOM: {node.ae_title}@{node.dicom_host}:{port}\n"
    return Done(listening.to_dict(), f"{dicom}{listening.url} (Ctrl-C stops)", listening.serve)


VERB = plain(serve, "trcgl serve run")
