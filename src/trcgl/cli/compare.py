"""`trcgl compare` on the command line."""

from pathlib import Path
from typing import Literal

from trcgl.cli.verb import Done, Verb, plain


def compare(runs: tuple[Path, ...], /, *, split: Literal["test", "val"] = "test") -> Done:
    """Paired patient-bootstrap differences between evaluated runs.

    Args:
        runs: Two run folders or more; the first is the reference.
        split: The split whose predictions are compared.
    """
    from trcgl.evaluate import compare as stage

    told = stage.compare(runs, split)
    return Done(told, stage.markdown(told))


VERB = Verb(
    "Paired patient-bootstrap differences between evaluated runs.",
    "trcgl compare baseline run",
    plain(compare),
)
