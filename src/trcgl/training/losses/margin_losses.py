"""Losses that ask more of a positive than a logit above 0, and how much more depends on the finding's frequency."""

from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from trcgl.core.recipe import LossRecipe
from trcgl.training.losses.loss import Loss, Rows, effective_number_weights


class PublishedMarginLoss(Loss):
    """The loss of TRCGL-Net as published: weighted cross-entropy with a margin that grows with frequency.

        w_c = (e_c / mean e)^power,        e_c = (1 - β) / (1 - β^n_c)       (Cui et al. 2019)
        m_c = max_margin · n_c / max n
        loss = w_c · BCE(l_c - m_c y, y)

    It is odd and kept as it is: the margin asks most of the findings that have most examples, the opposite of
    LDAM (Cao et al. 2019), whose margin is proportional to n^-1/4. The paper gives only the largest margin (0.2) and
    the direction; that it is linear in n, and subtracted from the logit of a positive, is our reading. A finding
    without positives is weighted as if it had one.
    """

    weight: Tensor
    margin: Tensor

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
        super().__init__(recipe, positives, rows)
        counts = positives.double().clamp(min=1)
        self.register_buffer("weight", effective_number_weights(positives, recipe.beta, recipe.weight_power))
        self.register_buffer("margin", (recipe.max_margin * counts / counts.max()).float())

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        target = target.float()
        moved = logits.float() - self.margin * target
        return self.weight * functional.binary_cross_entropy_with_logits(moved, target, reduction="none")


class LdamLoss(Loss):
    """Label-distribution-aware margins and deferred re-weighting: LDAM-DRW (Cao et al. 2019, section 3, algorithm 1).

        Δ_c  = max_margin · (n_c / min n)^-1/4
        loss = w_c · BCE(s (l_c - Δ_c y), y)
        w_c  = 1 before the share `defer` of the steps is done, then `effective_number_weights`

    The rarer a finding, the larger the margin. What differs from the original: that is a softmax over exclusive
    classes, whose margin is taken from the logit of the true one; here each finding is a sigmoid and the margin is
    taken from the logit of a positive. Its logits are cosines times s = 30 and its largest margin is 0.5; a head here
    has logits of any size, so s = `margin_scale` is 1 unless a recipe says otherwise. Its weight is that of a row's
    class; a row here has several findings or none, so w_c is that of the element's finding, on positives and negatives
    alike. A finding without positives counts as if it had one. Inference uses l, without margin or s.
    """

    weight: Tensor
    margin: Tensor

    def __init__(self, recipe: LossRecipe, positives: Num[Tensor, " findings"], rows: Rows) -> None:
        super().__init__(recipe, positives, rows)
        counts = positives.float().clamp(min=1)
        self.scale, self.defer = recipe.margin_scale, recipe.defer
        self.register_buffer("margin", recipe.max_margin * (counts / counts.min()) ** -0.25)
        self.register_buffer("weight", effective_number_weights(positives, recipe.beta))

    def forward(
        self, logits: Float[Tensor, "batch findings"], target: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch findings"]:
        """Loss of each element."""
        target = target.float()
        moved = self.scale * (logits.float() - self.margin * target)
        loss = functional.binary_cross_entropy_with_logits(moved, target, reduction="none")
        return self.weight * loss if self.progress >= self.defer else loss
