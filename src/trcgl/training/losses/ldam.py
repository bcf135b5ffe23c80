"""Label-distribution-aware margins (LDAM)."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from trcgl.core.loss_settings import LdamSettings
from trcgl.training.losses.base import Elements, Loss, PerFinding, effective_number_weights


class LdamLoss(Loss):
    """Margins by frequency and deferred re-weighting: LDAM-DRW (Cao et al. 2019, section 3, algorithm 1).

        Δ_c  = max_margin · (n_c / min n)^-1/4
        loss = w_c · BCE(s (l_c - Δ_c y), y)
        w_c  = 1 before the share `defer` of the steps is done, then `effective_number_weights`

    The rarer a finding, the larger the margin. Differences from the original: that is a softmax over exclusive classes,
    whose margin is subtracted from the logit of the true class; here each finding is a sigmoid and the margin is
    subtracted from the logit of a positive. Its logits are cosines times s = 30 and its largest margin is 0.5; a head
    here has unbounded logits, so s = `margin_scale` is 1 by default. Its weight is that of a row's class; a row here
    has several findings or none, so w_c is the weight of the element's finding, for positives and negatives alike. A
    finding without positives counts as if it had one. Inference uses l, without margin or s.
    """

    Settings = LdamSettings
    weight: Tensor
    margin: Tensor

    def __init__(self, settings: LdamSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        counts = positives.float().clamp(min=1)
        self.scale, self.defer = settings.margin_scale, settings.defer
        self.register_buffer("margin", settings.max_margin * (counts / counts.min()) ** -0.25)
        self.register_buffer("weight", effective_number_weights(positives, settings.beta))

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        target = target.float()
        moved = self.scale * (logits.float() - self.margin * target)
        loss = binary_cross_entropy_with_logits(moved, target, reduction="none")
        return self.weight * loss if self.progress >= self.defer else loss
