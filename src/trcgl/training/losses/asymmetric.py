"""Asymmetric loss (ASL)."""

import torch
from torch.nn import functional

from trcgl.core.loss_settings import AsymmetricSettings
from trcgl.training.losses.base import Elements, Loss, PerFinding
from trcgl.training.losses.focal import SMALLEST


class AsymmetricLoss(Loss):
    """Focal loss that ignores very easy negatives (Ridnik et al. 2021, equations 4 to 7).

        positive: -(1 - p)^γ+ log p
        negative: -p_m^γ- log(1 - p_m),   p_m = max(p - m, 0)

    The probability is shifted by m = `clip`, not clipped, so that a hard negative keeps its slope.
    """

    Settings = AsymmetricSettings

    def __init__(self, settings: AsymmetricSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        self.settings = settings

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        logits, target = logits.float(), target.float()
        absent = torch.sigmoid(-logits)                                                           # 1 - p
        shifted = (absent + self.settings.clip).clamp(min=torch.finfo(absent.dtype).tiny, max=1)  # 1 - p_m
        positive = -(absent.clamp(min=SMALLEST) ** self.settings.gamma_positive) * functional.logsigmoid(logits)
        negative = -((1 - shifted).clamp(min=SMALLEST) ** self.settings.gamma_negative) * torch.log(shifted)
        return target * positive + (1 - target) * negative
