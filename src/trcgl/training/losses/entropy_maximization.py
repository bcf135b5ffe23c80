"""Entropy maximization, a loss for partially labeled rows."""

import math

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from trcgl.core.loss_settings import EntropyMaximizationSettings
from trcgl.training.losses.base import Elements, Loss, PerFinding


class EntropyMaximizationLoss(Loss):
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

    def __init__(self, settings: EntropyMaximizationSettings, positives: PerFinding, rows: PerFinding | int) -> None:
        super().__init__(settings, positives, rows)
        self.alpha = settings.unknown_weight

    def forward(self, logits: Elements, target: Elements) -> Elements:
        """Loss of each element."""
        return binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")

    def of_unknown(self, logits: Elements) -> Elements:
        """Loss of each element if its label is unknown."""
        logits = logits.float()
        present = torch.sigmoid(logits) * logsigmoid(logits)  # p log p
        absent = torch.sigmoid(-logits) * logsigmoid(-logits)  # (1 - p) log(1 - p)
        return self.alpha * (math.log(2) + present + absent)
