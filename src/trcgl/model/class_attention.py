"""Class-aware attention: one spatial map per finding (TRCGL-Net, Figure 1)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ClassAttention(nn.Module):
    """Let each finding look where it wants to.

        A   = softmax_hw(V F' / τ)       one map per finding, which sums to 1
        f_c = Σ_hw A_c F'

    Args:
        width: channels D of the feature map.
        findings: number of findings C.
        temperature: τ; smaller is sharper.
    """

    def __init__(self, width: int, findings: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.query = nn.Linear(width, findings, bias=False)  # V; a bias would cancel in the softmax
        nn.init.normal_(self.query.weight, std=0.01)  # nearly uniform maps at the start
        self.temperature = temperature

    def forward(
        self, feature: Float[Tensor, "batch width height breadth"]
    ) -> tuple[Float[Tensor, "batch findings width"], Float[Tensor, "batch findings height breadth"]]:
        """The feature f_c of each finding, and its attention map A_c."""
        flat = feature.flatten(2)                                             # (B, D, hw)
        scores = torch.einsum("cd,bdn->bcn", self.query.weight, flat)         # (B, C, hw)
        maps = torch.softmax(scores.float() / self.temperature, dim=-1)       # (B, C, hw), sums to 1
        per_finding = torch.bmm(maps.to(flat.dtype), flat.transpose(1, 2))    # (B, C, D)
        return per_finding, maps.unflatten(-1, feature.shape[-2:])
