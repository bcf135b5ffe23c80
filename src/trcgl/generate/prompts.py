"""A label set in plain English."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from trcgl.dataset.labels import phrase

_PLAIN, _NORMAL = "chest radiograph", "normal"


@dataclass(frozen=True)
class Prompt:
    """A prompt."""

    pieces: tuple[tuple[str, str | None], ...] = ()  # pairs of words and the finding that the words name, or None

    @property
    def text(self) -> str:
        """The prompt as text."""
        return " ".join(words for words, _ in self.pieces).replace(" ,", ",")

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings that the prompt names, in order."""
        return tuple(finding for _, finding in self.pieces if finding)


EMPTY = Prompt()  # the unconditional prompt of classifier-free guidance


def prompt(findings: Iterable[str], normal: str | None, order: np.random.Generator | None = None) -> Prompt:
    """The prompt for an image: "chest radiograph with pleural effusion, kyphosis and cardiomegaly".

    `normal`: the normal label; alone it gives "normal chest radiograph". `order`: shuffles the findings, so that a
    generator learns nothing from their order; None keeps the order.
    """
    findings = list(findings)
    named = [finding for finding in findings if finding != normal]
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
