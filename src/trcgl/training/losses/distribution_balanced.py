"""Distribution-balanced loss."""

import torch
from torch import Tensor
from torch.nn import functional

from trcgl.core.loss_settings import DistributionBalancedSettings
from trcgl.training.losses.base import Elements, Loss, PerFinding, log_odds


class DistributionBalancedLoss(Loss):
    """Re-balanced weights and tolerance for negatives, for multi-label rows (Wu et al. 2020, section 3).

        r     = P_C / P_I = (1 / n_c) / Σ_{j in the row} (1 / n_j)    class-level ÷ instance-level sampling probability
        r̂     = α + sigmoid(β (r - μ))
        ν_c   = -κ log(π_c / (1 - π_c)),  π_c = n_c / N
        loss  = r̂ · [ y log(1 + exp(-(l_c - ν_c))) + (1 - y) / λ · log(1 + exp(λ (l_c - ν_c))) ]

    With class-balanced row sampling a frequent finding is shown too often, in the rows of rarer findings; r corrects
    that. ν demands more of the positives of a rare finding and less of its negatives; λ stops pushing a negative down
    once its logit is below ν.

    r depends on the whole row. An unknown label counts as absent there, as an unannotated positive does; a label
    between 0 and 1 counts with its value. A row without positives has r = ∞ and so r̂ = α + 1, as in the authors' code;
    a finding without positives counts as if it had one. Differences from the original: rows are sampled by
    `train.row_sampling` (original: `class_balanced`), and there is no focal factor (the authors' code adds one with
    γ = 2, and divides ν by λ). Inference uses l.
    """

    Settings = DistributionBalancedSettings
    inverse: Tensor
    shift: Tensor

    def __init__(self, settings: DistributionBalancedSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        self.settings = settings
        self.register_buffer("inverse", 1 / positives.float().clamp(min=1))
        self.register_buffer("shift", -settings.tolerance_shift * log_odds(positives, rows))

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        target = target.float()
        moved = logits.float() - self.shift
        tolerance = self.settings.negative_tolerance
        positive = functional.softplus(-moved)
        negative = functional.softplus(tolerance * moved) / tolerance
        return self._weight(target) * (target * positive + (1 - target) * negative)

    def _weight(self, target: Elements) -> Elements:
        of_row = (target * self.inverse).sum(1, keepdim=True)  # (B, 1)
        ratio = self.inverse / of_row.clamp(min=torch.finfo(of_row.dtype).tiny)  # (B, C), huge without a positive
        rise = self.settings.rebalance_slope * (ratio - self.settings.rebalance_center)
        return self.settings.rebalance_floor + rise.sigmoid()
