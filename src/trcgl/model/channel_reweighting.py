"""Channel reweighting: a squeeze-and-excitation bottleneck (Hu et al. 2018) behind a gate (TRCGL-Net, Figure 1)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ChannelReweighting(nn.Module):
    """Scale each channel by what the whole image says about it.

        s  = sigmoid(W2 relu(W1 g)),   g = mean_hw F
        F' = F + γ · s ⊙ F = (1 + γ s) ⊙ F

    Args:
        width: channels D of the feature map.
        reduction: the bottleneck has D / reduction channels, at least one.
        gate: γ, or its start value.
        learn_gate: train γ with the network.
    """

    def __init__(self, width: int, reduction: int, gate: float, *, learn_gate: bool = False) -> None:
        super().__init__()
        hidden = max(width // reduction, 1)
        self.squeeze = nn.Linear(width, hidden)
        self.excite = nn.Linear(hidden, width)
        self.gate = nn.Parameter(torch.tensor(gate), requires_grad=learn_gate)

    def forward(self, pooled: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """Factors 1 + γ s of the channels of F, from g; the mean of F' is then simply the factors times g."""
        hidden = torch.relu(self.squeeze(pooled))              # (B, D / r)
        return 1 + self.gate * torch.sigmoid(self.excite(hidden))  # (B, D)
