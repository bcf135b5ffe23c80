"""The contract of a loss: logits and labels in, one number per image and finding out; and the mean over a batch."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from trcgl.core.loss_settings import LossSettings

Elements = Float[Tensor, "batch findings"]
"""One number per image and finding."""
PerFinding = Num[Tensor, " findings"]
"""One number per finding."""
Mask = Bool[Tensor, "batch findings"]
Scalar = Float[Tensor, ""]


class Loss(nn.Module, ABC):
    """Base class of losses: elementwise, built as `LOSSES[name](settings, positives, rows)`.

        class HardLabels(Loss):
            def forward(self, logits, target):                   # (B, C), (B, C) -> (B, C)
                return binary_cross_entropy_with_logits(logits.float(), target.round(), reduction="none")

    A loss computes in float32 whatever the precision of the logits, and is finite for a finding without positives.

    Args:
        settings: an instance of the class's `Settings`.
        positives: (C,) number of positives of each finding among the training rows.
        rows: (C,) number of training rows with a known label of each finding, or one number for all findings.
    """

    Settings: ClassVar[type[LossSettings]] = LossSettings
    """Dataclass of the settings that the loss reads; each field has a default and a docstring."""

    progress: float = 0.0
    """Fraction of the run's optimizer steps that are done. It is set from the step number before every step, so that a
    loss that changes during the run stores nothing and resumes exactly."""

    def __init__(self, settings: LossSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__()
        self.settings = settings

    @abstractmethod
    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element.

        Args:
            logits: (B, C).
            target: (B, C) in [0, 1]; between 0 and 1 where images are mixed or labels smoothed, 0 where unknown. The
                loss of an unknown label is ignored.
        """

    def of_unknown(self, logits: Elements) -> Elements | None:
        """Loss of each element if its label is unknown; None leaves unknown labels out of the mean."""
        return None


class KnownMean(nn.Module):
    """Mean of a loss over the known labels of a batch, for your own training loop.

    Args:
        loss: elementwise loss. Its `progress` (fraction of optimizer steps done) is read by `ldam`.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Elements, label: Elements) -> Float[Tensor, ""]:
        """Mean loss of logits (B, C) and labels (B, C) in [0, 1], NaN where unknown."""
        known, rows = ~label.isnan(), torch.ones_like(label[:, 0])
        elementwise, counted = elements(self.loss, logits, label.nan_to_num(0.0), known, rows.bool())
        return masked_mean(elementwise, counted, rows)


def elements(
    loss: Loss, logits: Elements, target: Elements, known: Mask, real: Bool[Tensor, " batch"]
) -> tuple[Elements, Mask]:
    """Loss of each element, and which elements count in the mean.

    The target is 0 where a label is not `known`. A row that is not `real` only pads the batch and never counts.
    """
    elementwise, unknown = loss(logits, target), loss.of_unknown(logits)
    if unknown is None:
        return elementwise, known
    return torch.where(known, elementwise, unknown), real[:, None].expand_as(known)


def masked_mean(
    elementwise: Elements, counted: Mask, row_weight: Float[Tensor, " batch"], denominator: Scalar | None = None
) -> Scalar:
    """Mean over the counted elements, each weighted by its row; 0 where nothing counts.

    The sum is divided by `denominator`, by default the total weight of this batch. With several processes, whose
    gradients are averaged, it is the total weight over all processes divided by their number.
    """
    weight = counted * row_weight[:, None]
    if denominator is None:
        denominator = weight.sum()
    total = torch.where(weight > 0, elementwise * weight, 0.0).sum()
    return total / torch.where(denominator > 0, denominator, 1.0)


def smoothed(target: Elements, smoothing: float) -> Elements:
    """Label smoothing: y becomes y (1 - ε) + ε / 2."""
    return target * (1 - smoothing) + smoothing / 2


def cross_entropy(logits: Elements, target: Elements) -> Elements:
    """Binary cross-entropy of each element, in float32."""
    return binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")


def effective_number_weights(positives: PerFinding, beta: float, power: float = 1.0) -> Float[Tensor, " findings"]:
    """Weights w_c = (e_c / mean e)^power with e_c = (1 - β) / (1 - β^n_c), the inverse effective number of samples.

    A finding without positives is weighted as if it had one. Source: Cui et al. 2019, sections 3 and 4.
    """
    counts = positives.double().clamp(min=1)
    inverse = (1 - beta) / (1 - beta**counts)
    return ((inverse / inverse.mean()) ** power).float()


def log_odds(positives: PerFinding, rows: PerFinding | int) -> Float[Tensor, " findings"]:
    """log(π / (1 - π)) with π = n / N; half a row is added to a class (present or absent) without rows."""
    present = positives.double().clamp(min=0.5)
    absent = (rows - positives.double()).clamp(min=0.5)
    return torch.log(present / absent).float()
