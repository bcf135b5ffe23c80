"""A loss for rows of which only some labels are known."""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from trcgl.core.recipe import LossRecipe
from trcgl.training.losses.loss import Loss, Rows


class EntropyMaximizationLoss(Loss):
    """An unknown label is acknowledged as unknown: entropy-maximization (EM) loss (Zhou et al. 2022).

        known:    BCE(l, y)
        unknown:  α (log 2 - H(p)),   H(p) = -p log p - (1 - p) log(1 - p),   p = sigmoid(l)

    Assuming unknown labels negative teaches what may be wrong, and leaving them out lets a network that sees hardly
    any negatives call everything present. Here they ask for doubt, weakly: the slope α p (1 - p) l is 0 at p = 0.5 and
    vanishes towards 0 and 1, so that whatever the network has made its mind up about is left to it.

    It fits drawn rows, whose labels other than those asked for are unknown, and tables that name a single positive, if
    what they do not name is unknown there (null), not 0. A 0 is a known negative and costs its cross-entropy. Every
    element of a row counts in the mean, also unknown ones.

    What differs from the original: its labels are never known to be negative; its pseudo-labels, which
    remember a score of every image, are not used; log 2 is added, which keeps the loss at 0 or above and changes no
    gradient.
    """

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
        super().__init__(recipe, positives, rows)
        self.alpha = recipe.unknown_weight

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        return functional.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")

    def of_unknown(self, logits: Float[Tensor, "batch findings"]) -> Float[Tensor, "batch findings"]:
        """Loss of each element if its label were unknown."""
        logits = logits.float()
        present = torch.sigmoid(logits) * functional.logsigmoid(logits)  # p log p
        absent = torch.sigmoid(-logits) * functional.logsigmoid(-logits)  # (1 - p) log(1 - p)
        return self.alpha * (math.log(2) + present + absent)
