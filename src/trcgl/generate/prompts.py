"""A label set in plain English."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from trcgl.dataset.labels import phrase

_PLAIN, _NORMAL = "chest radiograph", "normal"


@dataclass(frozen=True)
class Prompt:
    """What a generator is asked for.

    Args:
        pieces: words, each with the finding that they name or None, in their order.
    """

    pieces: tuple[tuple[str, str | None], ...] = ()

    @property
    def text(self) -> str:
        """The prompt in words."""
        return " ".join(words for words, _ in self.pieces).replace(" ,", ",")

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings that it names, in their order."""
        return tuple(finding for _, finding in self.pieces if finding)


EMPTY = Prompt()
"""What classifier-free guidance steers away from."""


def prompt(findings: Iterable[str], normal: str | None, order: np.random.Generator | None = None) -> Prompt:
    """The prompt for an image: "chest radiograph with pleural effusion, kyphosis and cardiomegaly".

    Args:
        findings: of the image.
        normal: the label that says "nothing found"; alone it makes a "normal chest radiograph".
        order: shuffles the findings, so that their order means nothing; None keeps them as they are.
    """
    findings = list(findings)
    named = [one for one in findings if one != normal]
    if not named:
        return Prompt(((_NORMAL, normal), (_PLAIN, None))) if normal in findings else Prompt(((_PLAIN, None),))
    if order is not None:
        named = [named[place] for place in order.permutation(len(named))]
    pieces: list[tuple[str, str | None]] = [(f"{_PLAIN} with", None)]
    for place, finding in enumerate(named):
        if place:
            pieces.append(("and" if place == len(named) - 1 else ",", None))
        pieces.append((phrase(finding), finding))
    return Prompt(tuple(pieces))
