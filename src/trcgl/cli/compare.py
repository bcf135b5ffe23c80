"""The verb `compare`."""

from pathlib import Path
from typing import Literal

from trcgl.cli.verb import Done, plain


def compare(runs: tuple[Path, ...], /, *, split: Literal["test", "val"] = "test", dataset: Path | None = None) -> Done:
    """Compare evaluated runs on the same images: paired differences with 95 % intervals over patients.

    Args:
        runs: Two run folders or ensemble folders or more; the first is the reference.
        split: Split whose predictions are compared.
        dataset: Dataset folder on which `trcgl evaluate --dataset` has evaluated all of them; default: their own.
    """
    from trcgl.evaluate.compare import compare, markdown

    comparison = compare(runs, split, dataset=dataset)
    return Done(comparison, markdown(comparison))


VERB = plain(compare, "trcgl compare baseline run")
