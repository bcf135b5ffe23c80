"""Losses that treat all findings alike: cross-entropy, focal, asymmetric, and entropy maximization."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trcgl.core.loss_settings import AsymmetricSettings, EntropyMaximizationSettings, FocalSettings
from trcgl.training.losses.base import Elements, Loss, cross_entropy

_SMALLEST = 1e-8  # lower bound of a probability before it is raised to a power: for γ < 1 the slope of p^γ is ∞ at 0


class BinaryCrossEntropy(Loss):
    """-y log p - (1 - y) log(1 - p)."""

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        return cross_entropy(logits, target)


class FocalLoss(Loss):
    """-(1 - p_t)^γ log p_t, with p_t = p for a positive and 1 - p for a negative (Lin et al. 2017, equation 4).

    A target y between 0 and 1 has y times the loss of a positive plus 1 - y times the loss of a negative.
    """

    Settings = FocalSettings
    settings: FocalSettings

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        logits, target = logits.float(), target.float()
        return target * self._of_positive(logits) + (1 - target) * self._of_positive(-logits)

    def _of_positive(self, logits: Tensor) -> Tensor:
        missed = torch.sigmoid(-logits).clamp(min=_SMALLEST)  # 1 - p
        return -(missed**self.settings.focal_gamma) * logsigmoid(logits)


class AsymmetricLoss(Loss):
    """Focal loss that ignores very easy negatives (ASL; Ridnik et al. 2021, equations 4 to 7).

        positive: -(1 - p)^γ+ log p
        negative: -p_m^γ- log(1 - p_m),   p_m = max(p - m, 0)

    The probability is shifted by m = `clip`, not clipped, so that a hard negative keeps its slope. As in the authors'
    training script (Alibaba-MIIL/ASL, `disable_torch_grad_focal_loss`), the focusing weights (1 - p)^γ+ and p_m^γ- are
    constants in the gradient; without `constant_focus` they are differentiated, as in the paper's equations, and
    negatives are pulled down about three times as hard.

    Difference from the original: the authors' code sums over the batch and the findings; trcgl takes the mean over
    known labels, as for every loss, so that one learning rate and one `train.clip_gradient` suit all losses. AdamW
    steps do not depend on the scale.
    """

    Settings = AsymmetricSettings
    settings: AsymmetricSettings

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        logits, target = logits.float(), target.float()
        absent = torch.sigmoid(-logits)  # 1 - p
        shifted = (absent + self.settings.clip).clamp(min=torch.finfo(absent.dtype).tiny, max=1)  # 1 - p_m
        focus_positive = absent.clamp(min=_SMALLEST) ** self.settings.gamma_positive
        focus_negative = (1 - shifted).clamp(min=_SMALLEST) ** self.settings.gamma_negative
        if self.settings.constant_focus:
            focus_positive, focus_negative = focus_positive.detach(), focus_negative.detach()
        positive = -focus_positive * logsigmoid(logits)
        negative = -focus_negative * torch.log(shifted)
        return target * positive + (1 - target) * negative


class EntropyMaximizationLoss(BinaryCrossEntropy):
    """Cross-entropy of known labels, and the negative entropy of unknown ones (EM loss; Zhou et al. 2022).

        known:    BCE(l, y)
        unknown:  α (log 2 - H(p)),   H(p) = -p log p - (1 - p) log(1 - p),   p = sigmoid(l)

    Treating unknown labels as negative teaches wrong labels, and leaving them out lets a network that sees hardly any
    negatives call everything present. Here they pull the score weakly towards 0.5: the slope α p (1 - p) l is 0 at
    p = 0.5 and vanishes towards 0 and 1, so that a confident prediction stays as it is.

    It suits synthetic images, of which only the requested labels are known, and label tables that name a single
    positive if the other labels are stored as unknown (null), not 0. A 0 is a known negative and costs its
    cross-entropy. Every element of a row counts in the mean, unknown ones included.

    Differences from the original: there no label is known to be negative; its pseudo-labels, which need a stored score
    of every image, are not used; log 2 is added, which keeps the loss non-negative and changes no gradient.
    """

    Settings = EntropyMaximizationSettings
    settings: EntropyMaximizationSettings

    def of_unknown(self, logits: Elements) -> Elements:
        """Loss of each element if its label is unknown."""
        logits = logits.float()
        present = torch.sigmoid(logits) * logsigmoid(logits)  # p log p
        absent = torch.sigmoid(-logits) * logsigmoid(-logits)  # (1 - p) log(1 - p)
        return self.settings.unknown_weight * (math.log(2) + present + absent)
