"""A label set in plain English, short enough for a text encoder."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from trcgl.dataset.labels import LabelSpace, phrase

_PLAIN, _NORMAL = "chest radiograph", "normal"
VIEWS = ("frontal", "lateral")
"""Views of the manifest that prompts name; any other view is unknown to a generator."""
_COMMONNESS = {"tail": 0, "medium": 1, "head": 2}


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


def prompt(
    findings: Iterable[str], normal: str | None, order: np.random.Generator | None = None, view: str | None = None
) -> Prompt:
    """The prompt for an image: "frontal chest radiograph with pleural effusion, kyphosis and cardiomegaly".

    Args:
        findings: the label set.
        normal: the normal label; alone it gives "normal frontal chest radiograph".
        order: shuffles the findings, so that a generator learns nothing from their order; None keeps the order.
        view: `frontal` or `lateral`; any other view, or None, is left out.
    """
    findings = list(findings)
    plain = f"{view} {_PLAIN}" if view in VIEWS else _PLAIN
    named = [finding for finding in findings if finding != normal]
    if not named:
        return Prompt(((_NORMAL, normal), (plain, None))) if normal in findings else Prompt(((plain, None),))
    if order is not None:
        named = [named[place] for place in order.permutation(len(named))]
    pieces: list[tuple[str, str | None]] = [(f"{plain} with", None)]
    for place, finding in enumerate(named):
        if place:
            pieces.append(("and" if place == len(named) - 1 else ",", None))
        pieces.append((phrase(finding), finding))
    return Prompt(tuple(pieces))


def _any_length(_: Prompt) -> bool:
    return True


@dataclass(frozen=True)
class PromptFormat:
    """The wording of a generator's prompts, and the rule by which a label set that is too long is shortened.

    Args:
        space: the label space.
        views: whether prompts name the view.
        positives: finding to its number of positive training images.
        fits: whether the text encoder can read a prompt with its context tokens.
    """

    space: LabelSpace
    views: bool = False
    positives: Mapping[str, int] = field(default_factory=dict)
    fits: Callable[[Prompt], bool] = _any_length

    def prompt(
        self, findings: Iterable[str], view: str | None = None, order: np.random.Generator | None = None
    ) -> Prompt:
        """The prompt of a label set, shortened if it is too long; the arguments are those of `prompt`."""
        return self._worded(self.shortened(findings, view), view, order)

    def shortened(self, findings: Iterable[str], view: str | None = None, target: str | None = None) -> list[str]:
        """The findings that the prompt of a label set names, in their order.

        The most frequent finding is left out, again and again, until the text encoder can read the prompt: first head
        findings, then medium, then tail findings; within a group those with the most positive training images. The
        `target` and the last finding always stay.
        """
        findings = list(findings)
        named = [finding for finding in findings if finding != self.space.normal] or findings
        while len(named) > 1 and not self.fits(self._worded(named, view)):
            named.remove(max((finding for finding in named if finding != target), key=self._commonness))
        return named

    def _worded(self, findings: Iterable[str], view: str | None, order: np.random.Generator | None = None) -> Prompt:
        return prompt(findings, self.space.normal, order, view if self.views else None)

    def _commonness(self, finding: str) -> tuple[int, int, int]:
        """Larger for a more frequent finding; equally frequent findings follow the order of the label space."""
        group = self.space.groups.get(finding, "medium")
        return _COMMONNESS[group], self.positives.get(finding, 0), -self.space.index(finding)
