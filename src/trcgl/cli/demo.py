"""`trcgl demo` on the command line."""

from pathlib import Path

from trcgl.cli.verb import Done, Verb, plain


def demo(*, out: Path = Path("trcgl-demo")) -> Done:
    """Everything on drawn phantoms, on a laptop CPU, in minutes.

    Args:
        out: Folder for everything that the demo makes.
    """
    from trcgl import demo as stage

    told = stage.demo(out)
    return Done(told, told["tour"])


VERB = Verb(
    "Everything below on drawn phantoms, on a laptop CPU, in minutes.",
    "trcgl demo --out trcgl-demo",
    plain(demo),
)
