"""Binary cross-entropy."""

from torch.nn.functional import binary_cross_entropy_with_logits

from trcgl.core.loss_settings import LossSettings
from trcgl.training.losses.base import Elements, Loss, PerFinding


class BinaryCrossEntropy(Loss):
    """-y log p - (1 - y) log(1 - p)."""

    def __init__(self, settings: LossSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        return binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
