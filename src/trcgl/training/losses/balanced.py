"""Losses that depend on how often each finding occurs: weights, margins and shifts of the logits.

A finding without positives counts as if it had one. Inference uses the logit l without margin, scale or shift.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from trcgl.core.loss_settings import (
    ClassBalancedSettings,
    DistributionBalancedSettings,
    LdamSettings,
    LogitAdjustedSettings,
    PublishedMarginSettings,
)
from trcgl.training.losses.base import Elements, Loss, PerFinding, cross_entropy, effective_number_weights, log_odds


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
        return self.weight * cross_entropy(logits, target)


class PublishedMarginLoss(Loss):
    """The loss of the TRCGL-Net paper: weights, and a margin that grows with frequency (arXiv 2607.00975).

        w_c = (e_c / mean e)^power,        e_c = (1 - β) / (1 - β^n_c)       (Cui et al. 2019)
        m_c = max_margin · n_c / max n                                       with `margin` "counts"
        m_c = max_margin · (i_c - min i) / (max i - min i),  i_c = 1 / e_c   with `margin` "effective_number"
        loss = w_c · BCE(l_c - m_c y, y)

    The margin is largest for the most frequent finding, the opposite of LDAM (Cao et al. 2019), whose margin is
    proportional to n^-1/4; it is kept as published. The paper states only the largest margin (0.2) and the direction.
    "effective_number" is the formula of the authors' release; "counts" was our assumption before the release.
    """

    Settings = PublishedMarginSettings
    weight: Tensor
    margin: Tensor

    def __init__(self, settings: PublishedMarginSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        self.register_buffer("weight", effective_number_weights(positives, settings.beta, settings.weight_power))
        share = positives.double().clamp(min=1)
        if settings.margin == "effective_number":
            effective = 1 / effective_number_weights(positives, settings.beta).double()
            share = effective - effective.min()  # 0 for all findings where all are equally frequent
        self.register_buffer("margin", (settings.max_margin * share / share.max().clamp(min=1e-6)).float())

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        return self.weight * cross_entropy(logits.float() - self.margin * target.float(), target)


class LdamLoss(Loss):
    """Margins by frequency and deferred re-weighting: LDAM-DRW (Cao et al. 2019, section 3, algorithm 1).

        Δ_c  = max_margin · (n_c / min n)^-1/4
        loss = w_c · BCE(s (l_c - Δ_c y), y)
        w_c  = 1 before the share `defer` of the steps is done, then `effective_number_weights`

    The rarer a finding, the larger the margin. Differences from the original:

    - LDAM is a softmax over exclusive classes and subtracts the margin from the logit of the true class; here each
      finding is a sigmoid, and the margin is subtracted from the logit of a positive.
    - In LDAM the logits are cosines times s = 30 and the largest margin is 0.5; here logits are unbounded, so
      s = `margin_scale` is 1 by default.
    - In LDAM the weight of a row is the weight of its class; here a row has several findings or none, so w_c is the
      weight of the element's finding, for positives and negatives alike.
    """

    Settings = LdamSettings
    settings: LdamSettings
    weight: Tensor
    margin: Tensor

    def __init__(self, settings: LdamSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        counts = positives.float().clamp(min=1)
        self.register_buffer("margin", settings.max_margin * (counts / counts.min()) ** -0.25)
        self.register_buffer("weight", effective_number_weights(positives, settings.beta))

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        moved = self.settings.margin_scale * (logits.float() - self.margin * target.float())
        loss = cross_entropy(moved, target)
        return self.weight * loss if self.progress >= self.settings.defer else loss


class LogitAdjustedLoss(Loss):
    """Cross-entropy of logits shifted by the log-odds of the finding (Menon et al. 2021, equation 10).

        loss = BCE(l_c + τ log(π_c / (1 - π_c)), y),   π_c = n_c / N

    With τ = 1 the score is the probability of the finding in a population half of which has it, not among patients
    like those of train. A temperature cannot undo that; thresholds are fitted on val.

    Difference from the original: that is a softmax over exclusive classes, where the shift moves classes against each
    other. With one sigmoid per finding the bias of a head can absorb the shift, so it changes where training starts and
    what the score means more than the order of images within a finding.
    """

    Settings = LogitAdjustedSettings
    shift: Tensor

    def __init__(self, settings: LogitAdjustedSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        self.register_buffer("shift", settings.tau * log_odds(positives, rows))

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        return cross_entropy(logits.float() + self.shift, target)


class DistributionBalancedLoss(Loss):
    """Re-balanced weights and tolerance for negatives, for multi-label rows (Wu et al. 2020, section 3).

        r     = P_C / P_I = (1 / n_c) / Σ_{j in the row} (1 / n_j)    class-level ÷ instance-level sampling probability
        r̂     = α + sigmoid(β (r - μ))
        ν_c   = -κ / λ · log(π_c / (1 - π_c)),  π_c = n_c / N
        z_+   = -(l_c - ν_c),  z_- = λ (l_c - ν_c)
        f_±   = 2 sigmoid(z_±)^γ
        loss  = r̂ · [ y f_+ log(1 + exp(z_+)) + (1 - y) / λ · f_- log(1 + exp(z_-)) ]

    With class-balanced row sampling a frequent finding is shown too often, in the rows of rarer findings; r corrects
    that. ν demands more of the positives of a rare finding and less of its negatives; λ stops pushing a negative down
    once its logit is below ν.

    r depends on the whole row. An unknown label counts as absent there, as an unannotated positive does; a label
    between 0 and 1 counts with its value. A row without positives has r = ∞ and so r̂ = α + 1, as in the authors' code.
    As in the authors' code (wutong16/DistributionBalancedLoss), ν is divided by λ and the loss has the focal factor f;
    the paper has neither: `divide_shift` off and `focal_gamma` 0, which leaves out f.

    Difference from the original: rows are sampled by `train.row_sampling` (original: `class_aware`).
    """

    Settings = DistributionBalancedSettings
    settings: DistributionBalancedSettings
    inverse: Tensor
    shift: Tensor

    def __init__(self, settings: DistributionBalancedSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        self.register_buffer("inverse", 1 / positives.float().clamp(min=1))
        share = settings.tolerance_shift / (settings.negative_tolerance if settings.divide_shift else 1.0)
        self.register_buffer("shift", -share * log_odds(positives, rows))

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        target = target.float()
        of_row = (target * self.inverse).sum(1, keepdim=True)  # (B, 1)
        ratio = self.inverse / of_row.clamp(min=torch.finfo(of_row.dtype).tiny)  # (B, C), huge without a positive
        rise = self.settings.rebalance_slope * (ratio - self.settings.rebalance_center)
        weight = self.settings.rebalance_floor + rise.sigmoid()

        moved, tolerance = logits.float() - self.shift, self.settings.negative_tolerance
        positive = softplus(-moved)
        negative = softplus(tolerance * moved) / tolerance
        if self.settings.focal_gamma:
            positive = positive * self._focus(-moved)
            negative = negative * self._focus(tolerance * moved)
        return weight * (target * positive + (1 - target) * negative)

    def _focus(self, missed: Elements) -> Elements:
        """Focal factor of the logit of the wrong answer; the slope of p^γ at 0 is ∞ for γ < 1."""
        return 2 * missed.sigmoid().clamp(min=1e-8) ** self.settings.focal_gamma
