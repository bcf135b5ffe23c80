"""Losses: logits and labels in, one number per image and finding out; `masked_mean` comes after."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn
from torch.nn import functional

from trcgl.core.recipe import LossRecipe

_SMALLEST = 1e-8  # of a probability before a power: the slope of p^γ at 0 is infinite for γ < 1


class Loss(nn.Module, ABC):
    """A loss is built as `LOSSES[name](recipe, positives, rows)`.

    It computes in float32 whatever the precision of the logits, and is finite for a finding without positives.

    Args:
        recipe: settings; a loss reads those that concern it.
        positives: (C,) positives of each finding among the training rows.
        rows: number of training rows.
    """

    @abstractmethod
    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element; `target` is 0 or 1, or between them where images were mixed.

        Where the label is unknown it is anything finite: it is masked later.
        """


class BinaryCrossEntropy(Loss):
    """-y log p - (1 - y) log(1 - p), with y moved by `label_smoothing` ε to y (1 - ε) + ε / 2."""

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: int) -> None:
        super().__init__(recipe, positives, rows)
        self.smoothing = recipe.label_smoothing

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        target = target.float() * (1 - self.smoothing) + self.smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")


class FocalLoss(Loss):
    """-(1 - p_t)^γ log p_t, with p_t = p for a positive and 1 - p for a negative (Lin et al. 2017, equation 4).

    A target between 0 and 1 gets that share of the positive and the rest of the negative loss.
    """

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: int) -> None:
        super().__init__(recipe, positives, rows)
        self.gamma = recipe.focal_gamma

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        logits, target = logits.float(), target.float()
        return target * self._when_present(logits) + (1 - target) * self._when_present(-logits)

    def _when_present(self, logits: Tensor) -> Tensor:
        missed = torch.sigmoid(-logits).clamp(min=_SMALLEST)
        return -(missed**self.gamma) * functional.logsigmoid(logits)


class AsymmetricLoss(Loss):
    """Easy negatives count less than hard ones, and very easy ones not at all (Ridnik et al. 2021, equations 4 to 7).

        positive: -(1 - p)^γ+ log p
        negative: -p_m^γ- log(1 - p_m),   p_m = max(p - m, 0)

    The probability is shifted by m = `clip`, so that a hard negative keeps its slope.
    """

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: int) -> None:
        super().__init__(recipe, positives, rows)
        self.gamma_positive = recipe.gamma_positive
        self.gamma_negative = recipe.gamma_negative
        self.clip = recipe.clip

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        logits, target = logits.float(), target.float()
        absent = torch.sigmoid(-logits)                                            # 1 - p
        shifted = (absent + self.clip).clamp(min=torch.finfo(absent.dtype).tiny, max=1)  # 1 - p_m
        positive = -(absent.clamp(min=_SMALLEST) ** self.gamma_positive) * functional.logsigmoid(logits)
        negative = -((1 - shifted).clamp(min=_SMALLEST) ** self.gamma_negative) * torch.log(shifted)
        return target * positive + (1 - target) * negative


class PublishedMarginLoss(Loss):
    """The loss of TRCGL-Net as published: weighted cross-entropy with a margin that grows with frequency.

        w_c = (e_c / mean e)^power,        e_c = (1 - β) / (1 - β^n_c)       (Cui et al. 2019)
        m_c = max_margin · n_c / max n
        loss = w_c · BCE(l_c - m_c y, y)

    It is odd and kept as it is: the margin asks most of the findings that have most examples, the opposite of
    LDAM (Cao et al. 2019), whose margin is proportional to n^-1/4. The paper gives only the largest margin (0.2) and
    the direction; that it is linear in n, and subtracted from the logit of a positive, is our reading. A finding
    without positives is weighted as if it had one.
    """

    weight: Tensor
    margin: Tensor

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: int) -> None:
        super().__init__(recipe, positives, rows)
        counts = positives.double().clamp(min=1)
        inverse_effective = (1 - recipe.beta) / (1 - recipe.beta**counts)
        weight = (inverse_effective / inverse_effective.mean()) ** recipe.weight_power
        self.register_buffer("weight", weight.float())
        self.register_buffer("margin", (recipe.max_margin * counts / counts.max()).float())

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        target = target.float()
        moved = logits.float() - self.margin * target
        return self.weight * functional.binary_cross_entropy_with_logits(moved, target, reduction="none")


def masked_mean(
    elementwise: Float[Tensor, "batch findings"],
    known: Bool[Tensor, "batch findings"],
    row_weight: Float[Tensor, " batch"],
    denominator: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Mean over known labels, each weighted by its row; 0 where nothing is known.

    Args:
        elementwise: what a loss returned.
        known: False where the label is unknown.
        row_weight: weight of each row.
        denominator: divide by this instead of the weight of the known labels in this batch. On several processes,
            whose gradients are averaged, it is that weight summed over the processes ÷ their number.
    """
    weight = known * row_weight[:, None]
    if denominator is None:
        denominator = weight.sum()
    total = torch.where(weight > 0, elementwise * weight, 0.0).sum()
    return total / torch.where(denominator > 0, denominator, 1.0)


LOSSES: dict[str, type[Loss]] = {
    "bce": BinaryCrossEntropy,
    "focal": FocalLoss,
    "asl": AsymmetricLoss,
    "published_margin": PublishedMarginLoss,
}
"""Name in a recipe (`--loss.name`) to class."""
