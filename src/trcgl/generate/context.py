"""Learnable context tokens (TRCGL-Net, Figure 1b): learned vectors for what the words of a prompt do not express."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trcgl.core.errors import RecipeError
from trcgl.core.generator_recipe import ContextRecipe

Encoded = Float[Tensor, "batch tokens width"]
PromptKind = Literal["learned", "handwritten", "shared_tokens", "per_finding_tokens"]
"""Parts of a prompt: words with all context tokens, words alone, or words with a single kind of tokens."""


class ContextTokens(nn.Module):
    """Shared tokens of every prompt, and tokens of each finding.

    With the placement `input`, tokens are inputs of the text encoder: shared tokens first, tokens of a finding before
    its name, because the encoder's attention is causal and the name can attend to earlier tokens only. With
    `output`, tokens are appended to the encoded text of both the conditional and the empty prompt: the shared tokens,
    then the mean of the tokens of the prompt's findings, or of all findings if it names none.
    """

    def __init__(self, recipe: ContextRecipe, findings: int, width: int) -> None:
        super().__init__()
        self.placement = recipe.placement
        self.read = (recipe.shared, recipe.per_finding) if recipe.placement == "input" else (0, 0)
        """Numbers of tokens, shared and per finding, that the text encoder reads while all are switched on."""
        self.enabled = recipe.placement != "none"
        self.shared = nn.Parameter(0.02 * torch.randn(recipe.shared, width))
        self.of_finding = nn.Parameter(0.02 * torch.randn(findings, recipe.per_finding, width))

    def restrict(self, kind: PromptKind) -> None:
        """Leave kinds of tokens out of every prompt from now on."""
        tokens = {"shared_tokens": self.shared, "per_finding_tokens": self.of_finding}
        if kind in tokens and not (self.enabled and tokens[kind].numel()):
            raise RecipeError(f"--prompt {kind}: the generator has no such tokens. Leave it out, or train some.")
        if kind == "handwritten":
            self.enabled = False
        elif kind == "shared_tokens":
            self.of_finding = nn.Parameter(self.of_finding[:, :0], requires_grad=False)
        elif kind == "per_finding_tokens":
            self.shared = nn.Parameter(self.shared[:0], requires_grad=False)

    @property
    def within(self) -> bool:
        """Whether tokens are inputs of the text encoder."""
        return self.enabled and self.placement == "input"

    @property
    def after(self) -> bool:
        """Whether tokens are appended to the encoded text."""
        return self.enabled and self.placement == "output"

    def shared_ids(self, vocabulary: int) -> list[int]:
        """Ids of the shared tokens: placeholders behind the vocabulary."""
        return list(range(vocabulary, vocabulary + len(self.shared)))

    def finding_ids(self, finding: int, vocabulary: int) -> list[int]:
        """Ids of the tokens of a finding, given by its index."""
        _, each, _ = self.of_finding.shape
        start = vocabulary + len(self.shared) + finding * each
        return list(range(start, start + each))

    def append(self, text: Encoded, present: Float[Tensor, "batch findings"]) -> Float[Tensor, "batch more width"]:
        """Encoded text followed by the tokens; `present` is 1 for each finding that a prompt names, else 0."""
        present = torch.where(present.sum(1, keepdim=True) > 0, present, 1.0)
        mean = torch.einsum("bc,cpd->bpd", present / present.sum(1, keepdim=True), self.of_finding)
        return torch.cat([text, self.shared.expand(len(text), -1, -1), mean], dim=1)

    @contextmanager
    def embedded(self, embedding: nn.Module, vocabulary: int) -> Iterator[None]:
        """Within the block, `embedding` looks placeholder ids up in the context tokens; gradients flow to the tokens.

        The text encoder takes ids only, so its embedding lookup is the only place where vectors can enter.
        """
        pending: list[Int[Tensor, "batch tokens"]] = []

        def before(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            pending.append(arguments[0])
            return (arguments[0].clamp(max=vocabulary - 1), *arguments[1:])

        def after(_: nn.Module, __: tuple[Any, ...], found: Tensor) -> Tensor:
            ids = pending.pop()
            table = torch.cat([self.shared, self.of_finding.flatten(0, 1)]).to(found.dtype)
            vectors = table[(ids - vocabulary).clamp(min=0)]
            return torch.where((ids >= vocabulary)[..., None], vectors, found)

        handles = [embedding.register_forward_pre_hook(before), embedding.register_forward_hook(after)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def nearest(
    tokens: Float[Tensor, "tokens width"], vectors: Float[Tensor, "words width"], words: Sequence[str], count: int = 5
) -> list[list[tuple[str, float]]]:
    """The words whose vectors have the largest cosine with each token, and the cosines."""
    cosine = nn.functional.normalize(tokens, dim=1) @ nn.functional.normalize(vectors, dim=1).T
    values, places = cosine.topk(min(count, len(words)))
    rows = zip(values.tolist(), places.tolist(), strict=True)
    return [[(words[place], round(value, 4)) for value, place in zip(*row, strict=True)] for row in rows]
