"""Losses that weigh findings by their frequency, or move their logits by it."""

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from trcgl.core.recipe import LossRecipe
from trcgl.training.losses.loss import Loss, Rows, effective_number_weights, log_odds


class ClassBalancedLoss(Loss):
    """Cross-entropy weighted by the inverse of the effective number of samples (Cui et al. 2019, section 4.2).

        loss = w_c · BCE(l_c, y),   w_c = e_c / mean e,   e_c = (1 - β) / (1 - β^n_c)

    What differs from the original: there a row has one class, whose weight multiplies all of the row's terms. A row
    here has several findings or none, so the weight is that of the element's finding: rare findings weigh more beside
    frequent ones, but the positives of a finding weigh no more beside its negatives. It is the sigmoid cross-entropy
    of the original, not its focal loss, and the power of the weights is 1 (`weight_power` is not read).
    """

    weight: Tensor

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
        super().__init__(recipe, positives, rows)
        self.register_buffer("weight", effective_number_weights(positives, recipe.beta))

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        loss = functional.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
        return self.weight * loss


class DistributionBalancedLoss(Loss):
    """Re-balanced weights and tolerance for negatives, for several labels a row (Wu et al. 2020, section 3).

        r     = P_C / P_I = (1 / n_c) / Σ_{j in the row} (1 / n_j)    class-level ÷ instance-level sampling probability
        r̂     = α + sigmoid(β (r - μ))
        ν_c   = -κ log(π_c / (1 - π_c)),  π_c = n_c / N
        loss  = r̂ · [ y log(1 + exp(-(l_c - ν_c))) + (1 - y) / λ · log(1 + exp(λ (l_c - ν_c))) ]

    Where rows are drawn by class, a frequent finding is seen too often in the rows that a rarer one brought along: r is
    the remedy. ν asks more of the positives of a rare finding and less of its negatives; λ lets go of a negative once
    it is below ν.

    r needs the whole row. A label that is unknown counts as absent there, as does a positive that nobody wrote down; a
    label between 0 and 1 counts with its share. A row without positives has r = ∞, so r̂ = α + 1, as in the authors'
    code; a finding without positives counts as if it had one. What differs from the original: rows are drawn as
    `train.row_sampling` says (theirs: `class_balanced`), and there is no focal factor (the authors' code adds one with
    γ = 2, and divides ν by λ). Inference uses l.
    """

    inverse: Tensor
    shift: Tensor

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
        super().__init__(recipe, positives, rows)
        self.floor, self.slope, self.center = recipe.rebalance_floor, recipe.rebalance_slope, recipe.rebalance_center
        self.tolerance = recipe.negative_tolerance
        self.register_buffer("inverse", 1 / positives.float().clamp(min=1))
        self.register_buffer("shift", -recipe.tolerance_shift * log_odds(positives, rows))

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        target = target.float()
        moved = logits.float() - self.shift
        positive = functional.softplus(-moved)
        negative = functional.softplus(self.tolerance * moved) / self.tolerance
        return self._weight(target) * (target * positive + (1 - target) * negative)

    def _weight(self, target: Float[Tensor, "batch findings"]) -> Float[Tensor, "batch findings"]:
        of_row = (target * self.inverse).sum(1, keepdim=True)  # (B, 1)
        ratio = self.inverse / of_row.clamp(min=torch.finfo(of_row.dtype).tiny)  # (B, C), huge without a positive
        return self.floor + (self.slope * (ratio - self.center)).sigmoid()


class LogitAdjustedLoss(Loss):
    """Cross-entropy of logits moved by the log-odds of the finding (Menon et al. 2021, equation 10).

        loss = BCE(l_c + τ log(π_c / (1 - π_c)), y),   π_c = n_c / N

    Inference uses l, without the term: with τ = 1 the score is the probability of the finding in a population half of
    which has it, not among patients like those of train. A temperature cannot undo that; thresholds are fitted on val.

    What differs from the original: that is a softmax over exclusive classes, where the term moves classes against each
    other. For one sigmoid a finding the bias of a head could take the term up, so what it changes is where training
    starts and what the score means, less so the order of images within a finding.
    """

    shift: Tensor

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
        super().__init__(recipe, positives, rows)
        self.register_buffer("shift", recipe.tau * log_odds(positives, rows))

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        moved = logits.float() + self.shift
        return functional.binary_cross_entropy_with_logits(moved, target.float(), reduction="none")
