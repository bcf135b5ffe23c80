"""Losses. `LOSSES` is the registry; its half without torch, the settings, is `trcgl.core.loss_settings`."""

from trcgl.core.loss_settings import SETTINGS
from trcgl.core.registry import Registry
from trcgl.training.losses.balanced import (
    ClassBalancedLoss,
    DistributionBalancedLoss,
    LdamLoss,
    LogitAdjustedLoss,
    PublishedMarginLoss,
)
from trcgl.training.losses.base import Loss
from trcgl.training.losses.cross_entropy import AsymmetricLoss, BinaryCrossEntropy, EntropyMaximizationLoss, FocalLoss

__all__ = ["LOSSES", "Loss", "register_loss"]

LOSSES: Registry[Loss] = Registry(
    Loss,
    "loss.name",
    "trcgl.losses",
    {
        "bce": BinaryCrossEntropy,
        "focal": FocalLoss,
        "asl": AsymmetricLoss,
        "published_margin": PublishedMarginLoss,
        "ldam": LdamLoss,
        "class_balanced": ClassBalancedLoss,
        "distribution_balanced": DistributionBalancedLoss,
        "logit_adjusted": LogitAdjustedLoss,
        "entropy_maximization": EntropyMaximizationLoss,
    },
)
"""Name in a recipe (`--loss.name`) to class."""


def register_loss(name: str, cls: type[Loss]) -> None:
    """Make a loss available by name, as `loss.name` of a recipe.

        @dataclass(frozen=True)
        class TopKSettings(LossSettings):
            k: int = 5
            \"\"\"Number of hardest findings of an image that count.\"\"\"

        class TopK(Loss):
            Settings = TopKSettings

            def forward(self, logits, target):                         # (B, C), (B, C)
                loss = binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
                return loss * (loss >= loss.topk(self.settings.k).values[:, -1:])

        register_loss("top_k", TopK)

    An installed package registers its losses through entry points of the group `trcgl.losses` instead.

    Args:
        name: any name but that of a built-in loss.
        cls: subclass of `Loss` whose `Settings` are a dataclass with defaults.

    Raises:
        RecipeError: the name is that of a built-in loss, or `cls` is no subclass of `Loss`.
    """
    LOSSES.register(name, cls)
    SETTINGS[name] = cls.Settings
