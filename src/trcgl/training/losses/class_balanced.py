"""Class-balanced loss."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from trcgl.core.loss_settings import ClassBalancedSettings
from trcgl.training.losses.base import Elements, Loss, PerFinding, effective_number_weights


class ClassBalancedLoss(Loss):
    """Cross-entropy weighted by the inverse effective number of samples (Cui et al. 2019, section 4.2).

        loss = w_c · BCE(l_c, y),   w_c = e_c / mean e,   e_c = (1 - β) / (1 - β^n_c)

    Differences from the original: there a row has one class, whose weight multiplies all terms of the row. A row here
    has several findings or none, so each element has the weight of its finding: rare findings weigh more than frequent
    ones, but the positives of a finding weigh no more than its negatives. This is the original's sigmoid
    cross-entropy, not its focal loss.
    """

    Settings = ClassBalancedSettings
    weight: Tensor

    def __init__(self, settings: ClassBalancedSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        self.register_buffer("weight", effective_number_weights(positives, settings.beta))

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        return self.weight * binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
