"""Every loss by its name, the plain ones among them; `masked_mean` comes after."""

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor
from torch.nn import functional

from trcgl.core.recipe import LossRecipe
from trcgl.training.losses.balanced_losses import ClassBalancedLoss, DistributionBalancedLoss, LogitAdjustedLoss
from trcgl.training.losses.loss import Loss, Rows
from trcgl.training.losses.margin_losses import LdamLoss, PublishedMarginLoss
from trcgl.training.losses.partial_loss import EntropyMaximizationLoss

_SMALLEST = 1e-8  # of a probability before a power: the slope of p^γ at 0 is infinite for γ < 1


class BinaryCrossEntropy(Loss):
    """-y log p - (1 - y) log(1 - p), with y moved by `label_smoothing` ε to y (1 - ε) + ε / 2."""

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
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

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
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

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
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


def elements(
    loss: Loss,
    logits: Float[Tensor, "batch findings"],
    target: Float[Tensor, "batch findings"],
    known: Bool[Tensor, "batch findings"],
    real: Bool[Tensor, " batch"],
) -> tuple[Float[Tensor, "batch findings"], Bool[Tensor, "batch findings"]]:
    """Loss of each element, and which elements count: known labels, or all of them where the loss has a use for all.

    Args:
        loss: of known labels, and perhaps of unknown ones.
        logits: of the batch.
        target: labels, 0 where unknown.
        known: False where the label is unknown.
        real: False for a row that only fills the batch up; it never counts.
    """
    elementwise, unknown = loss(logits, target), loss.of_unknown(logits)
    if unknown is None:
        return elementwise, known
    return torch.where(known, elementwise, unknown), real[:, None].expand_as(known)


def masked_mean(
    elementwise: Float[Tensor, "batch findings"],
    known: Bool[Tensor, "batch findings"],
    row_weight: Float[Tensor, " batch"],
    denominator: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Mean over known labels, each weighted by its row; 0 where nothing is known.

    Args:
        elementwise: what a loss returned.
        known: False where a label is left out, as most losses do with unknown ones.
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
    "ldam": LdamLoss,
    "class_balanced": ClassBalancedLoss,
    "distribution_balanced": DistributionBalancedLoss,
    "logit_adjusted": LogitAdjustedLoss,
    "entropy_maximization": EntropyMaximizationLoss,
}
"""Name in a recipe (`--loss.name`) to class."""
