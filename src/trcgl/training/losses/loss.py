"""What a loss is: logits and labels in, one number per image and finding out."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from trcgl.core.recipe import LossRecipe

Rows = Num[Tensor, " findings"] | int
"""Training rows in which the label of each finding is known, or one number for all findings."""


class Loss(nn.Module, ABC):
    """A loss is built as `LOSSES[name](recipe, positives, rows)`.

    It computes in float32 whatever the precision of the logits, and is finite for a finding without positives.

    Args:
        recipe: settings; a loss reads those that concern it.
        positives: (C,) positives of each finding among the training rows.
        rows: training rows in which the label of each finding is known, or one number for all.
    """

    progress: float = 0.0
    """Share of the run's optimizer steps that are done. Whoever trains sets it before every step from the number of
    that step, so that a loss that changes its course has nothing to store and resumes exactly."""

    @abstractmethod
    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element; `target` is 0 or 1, or between them where images were mixed.

        Where the label is unknown `target` is 0, and what is returned there is not used.
        """

    def of_unknown(self, logits: Float[Tensor, "batch findings"]) -> Float[Tensor, "batch findings"] | None:
        """Loss of each element if its label were unknown; None, as in most losses, leaves unknown labels out."""
        return None


def effective_number_weights(
    positives: Num[Tensor, " findings"], beta: float, power: float = 1.0
) -> Float[Tensor, " findings"]:
    """w_c = (e_c / mean e)^power with e_c = (1 - β) / (1 - β^n_c), the inverse of the effective number of samples.

    A finding without positives is weighted as if it had one. Source: Cui et al. 2019, sections 3 and 4.
    """
    counts = positives.double().clamp(min=1)
    inverse = (1 - beta) / (1 - beta**counts)
    return ((inverse / inverse.mean()) ** power).float()


def log_odds(positives: Num[Tensor, " findings"], rows: Rows) -> Float[Tensor, " findings"]:
    """log(π / (1 - π)) with π = n / N; a finding that no row has, or that every row has, counts half a row more."""
    present = positives.double().clamp(min=0.5)
    absent = (rows - positives.double()).clamp(min=0.5)
    return torch.log(present / absent).float()
