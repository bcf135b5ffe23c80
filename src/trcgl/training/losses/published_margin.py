"""The loss of the TRCGL-Net paper."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from trcgl.core.loss_settings import PublishedMarginSettings
from trcgl.training.losses.base import Elements, Loss, PerFinding, effective_number_weights


class PublishedMarginLoss(Loss):
    """Weighted cross-entropy with a margin that grows with frequency, as published (arXiv 2607.00975).

        w_c = (e_c / mean e)^power,        e_c = (1 - β) / (1 - β^n_c)       (Cui et al. 2019)
        m_c = max_margin · n_c / max n
        loss = w_c · BCE(l_c - m_c y, y)

    The margin is largest for the most frequent finding, the opposite of LDAM (Cao et al. 2019), whose margin is
    proportional to n^-1/4; it is kept as published. The paper states only the largest margin (0.2) and the direction:
    that it is linear in n, and subtracted from the logit of a positive, is our assumption. A finding without positives
    is weighted as if it had one.
    """

    Settings = PublishedMarginSettings
    weight: Tensor
    margin: Tensor

    def __init__(self, settings: PublishedMarginSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        counts = positives.double().clamp(min=1)
        self.register_buffer("weight", effective_number_weights(positives, settings.beta, settings.weight_power))
        self.register_buffer("margin", (settings.max_margin * counts / counts.max()).float())

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        target = target.float()
        moved = logits.float() - self.margin * target
        return self.weight * binary_cross_entropy_with_logits(moved, target, reduction="none")
