"""The verb `compare`."""

from pathlib import Path
from typing import Literal

from trcgl.cli.verb import Done, plain


def compare(runs: tuple[Path, ...], /, *, split: Literal["test", "val"] = "test") -> Done:
    """Compare evaluated runs on the same images: paired differences with 95 % intervals over patients.

    Args:
        runs: Two run folders or more; the first is the reference.
        split: Split whose predictions are compared.
    """
    from trcgl.evaluate.compare import compare, markdown

    comparison = compare(runs, split)
    return Done(comparison, markdown(comparison))


VERB = plain(compare, "trcgl compare baseline run")
