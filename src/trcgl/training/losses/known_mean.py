"""A loss with its mean over known labels, for training loops of one's own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.training.losses.base import Elements, Loss, elements, masked_mean


class KnownMean(nn.Module):
    """Mean of a loss over the known labels of a batch.

    Args:
        loss: elementwise loss. Its `progress` (fraction of optimizer steps done) is read by `ldam`.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Elements, label: Elements) -> Float[Tensor, ""]:
        """Mean loss of logits (B, C) and labels (B, C) in [0, 1], NaN where unknown."""
        known, rows = ~label.isnan(), torch.ones_like(label[:, 0])
        elementwise, counted = elements(self.loss, logits, label.nan_to_num(0.0), known, rows.bool())
        return masked_mean(elementwise, counted, rows)
