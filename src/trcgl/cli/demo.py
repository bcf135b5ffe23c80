"""The verb `demo`."""

from pathlib import Path

from trcgl.cli.verb import Done, plain
from trcgl.core.lock import locked


def demo(*, out: Path = Path("trcgl-demo")) -> Done:
    """Show every stage on rendered phantoms, on a laptop CPU, in minutes.

    Args:
        out: Folder for everything that the demo writes.
    """
    from trcgl import demo as stage

    with locked(out):
        result = stage.demo(out)
    return Done(result, result["tour"])


VERB = plain(demo, "trcgl demo --out trcgl-demo")
