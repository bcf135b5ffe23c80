"""Logit adjustment."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from trcgl.core.loss_settings import LogitAdjustedSettings
from trcgl.training.losses.base import Elements, Loss, PerFinding, log_odds


class LogitAdjustedLoss(Loss):
    """Cross-entropy of logits shifted by the log-odds of the finding (Menon et al. 2021, equation 10).

        loss = BCE(l_c + τ log(π_c / (1 - π_c)), y),   π_c = n_c / N

    Inference uses l without the shift: with τ = 1 the score is the probability of the finding in a population half of
    which has it, not among patients like those of train. A temperature cannot undo that; thresholds are fitted on val.

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
        return binary_cross_entropy_with_logits(logits.float() + self.shift, target.float(), reduction="none")
