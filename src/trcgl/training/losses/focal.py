"""Focal loss."""

import torch
from torch import Tensor
from torch.nn import functional

from trcgl.core.loss_settings import FocalSettings
from trcgl.training.losses.base import Elements, Loss, PerFinding

SMALLEST = 1e-8
"""Lower bound of a probability before it is raised to a power: the slope of p^γ at 0 is infinite for γ < 1."""


class FocalLoss(Loss):
    """-(1 - p_t)^γ log p_t, with p_t = p for a positive and 1 - p for a negative (Lin et al. 2017, equation 4).

    A target y between 0 and 1 has y times the loss of a positive plus 1 - y times the loss of a negative.
    """

    Settings = FocalSettings

    def __init__(self, settings: FocalSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        self.gamma = settings.focal_gamma

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        logits, target = logits.float(), target.float()
        return target * self._of_positive(logits) + (1 - target) * self._of_positive(-logits)

    def _of_positive(self, logits: Tensor) -> Tensor:
        missed = torch.sigmoid(-logits).clamp(min=SMALLEST)  # 1 - p
        return -(missed**self.gamma) * functional.logsigmoid(logits)
