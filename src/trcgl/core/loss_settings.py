"""The half of the registry of losses that needs no torch: settings by name, for recipes and `--help`.

The loss named NAME reads `SETTINGS[NAME]` and nothing else; its class is `trcgl.training.losses.LOSSES[NAME]`.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, make_dataclass
from typing import Any, Literal

from trcgl.core.errors import RecipeError
from trcgl.core.registry import installed

SETTINGS: dict[str, type["LossSettings"]] = {}
"""Name of a loss to the class of its settings."""


@dataclass(frozen=True)
class LossSettings:
    """Settings of a loss; this class has none. A loss with settings derives a dataclass with defaults.

    @dataclass(frozen=True)
    class TopKSettings(LossSettings):
        k: int = 5
    """

    def __init_subclass__(cls, loss: str | None = None) -> None:
        """Register the settings of the built-in loss of this name."""
        if loss:
            SETTINGS[loss] = cls

    def require(self, field: str, holds: bool, wanted: str) -> None:
        """Refuse a value out of range; called from `__post_init__`.

        Raises:
            RecipeError: `holds` is False.
        """
        if not holds:
            raise RecipeError(f"loss.settings.{field} is {getattr(self, field)}; it must be {wanted}.")


SETTINGS["bce"] = LossSettings


@dataclass(frozen=True)
class FocalSettings(LossSettings, loss="focal"):
    """Focal loss (Lin et al. 2017)."""

    focal_gamma: float = 2.0
    """Focusing exponent γ; 0 gives cross-entropy."""


@dataclass(frozen=True)
class AsymmetricSettings(LossSettings, loss="asl"):
    """Asymmetric loss (Ridnik et al. 2021)."""

    gamma_negative: float = 4.0
    """Focusing exponent γ- of negatives."""
    gamma_positive: float = 0.0
    """Focusing exponent γ+ of positives."""
    clip: float = 0.05
    """Shift m of the probability of a negative; negatives below it cost nothing."""
    constant_focus: bool = True
    """Treat the focusing weight as a constant in the gradient, as the authors' code does; off: differentiate it too."""


@dataclass(frozen=True)
class _EffectiveNumber(LossSettings):
    beta: float = 0.9999
    """β of the effective number of samples (Cui et al. 2019): 0 weighs findings alike, 1 by inverse frequency."""

    def __post_init__(self) -> None:
        self.require("beta", 0 <= self.beta < 1, "at least 0 and below 1")


@dataclass(frozen=True)
class ClassBalancedSettings(_EffectiveNumber, loss="class_balanced"):
    """Class-balanced cross-entropy (Cui et al. 2019)."""


@dataclass(frozen=True)
class PublishedMarginSettings(_EffectiveNumber, loss="published_margin"):
    """Loss of the TRCGL-Net paper (arXiv 2607.00975)."""

    weight_power: float = 0.5
    """Power of the effective-number weights."""
    max_margin: float = 0.2
    """Margin of the most frequent finding, subtracted from the logit of its positives."""
    margin: Literal["counts", "effective_number"] = "counts"
    """Growth of the margin: with the `counts` of positives, or with their `effective_number`, from 0 for the rarest
    finding, as in the authors' release."""


@dataclass(frozen=True)
class LdamSettings(_EffectiveNumber, loss="ldam"):
    """Label-distribution-aware margins with deferred re-weighting (Cao et al. 2019)."""

    max_margin: float = 0.2
    """Margin of the rarest finding, subtracted from the logit of its positives (0.5 in the original)."""
    margin_scale: float = 1.0
    """Factor s of the logits during training (30 in the original, whose logits are cosines)."""
    defer: float = 0.8
    """Share of the optimizer steps after which findings are weighted by their effective number; 1: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("margin_scale", self.margin_scale > 0, "above 0")
        self.require("defer", 0 <= self.defer <= 1, "between 0 and 1")


@dataclass(frozen=True)
class DistributionBalancedSettings(LossSettings, loss="distribution_balanced"):
    """Distribution-balanced loss (Wu et al. 2020)."""

    rebalance_floor: float = 0.1
    """Smallest weight α of an element."""
    rebalance_slope: float = 10.0
    """Slope β of the weight over the ratio of class-level to instance-level sampling probability."""
    rebalance_center: float = 0.2
    """Ratio μ at which the weight rises fastest."""
    negative_tolerance: float = 2.0
    """Factor λ of negative logits: a larger one stops pushing a negative down sooner."""
    tolerance_shift: float = 0.05
    """Share κ of a finding's log-odds that is added to its logit during training."""
    divide_shift: bool = True
    """Divide that share by λ, as the authors' code does; off: the formula of the paper."""
    focal_gamma: float = 2.0
    """Focusing exponent γ of the authors' code, which doubles the loss as well; 0: the formula of the paper."""

    def __post_init__(self) -> None:
        self.require("negative_tolerance", self.negative_tolerance > 0, "above 0")


@dataclass(frozen=True)
class LogitAdjustedSettings(LossSettings, loss="logit_adjusted"):
    """Logit-adjusted cross-entropy (Menon et al. 2021)."""

    tau: float = 1.0
    """Factor τ of a finding's log-odds, which are added to its logit during training."""


@dataclass(frozen=True)
class EntropyMaximizationSettings(LossSettings, loss="entropy_maximization"):
    """Entropy maximization for unknown labels (Zhou et al. 2022)."""

    unknown_weight: float = 0.1
    """Weight α of an unknown label; a known label weighs 1."""

    def __post_init__(self) -> None:
        self.require("unknown_weight", self.unknown_weight >= 0, "at least 0")


SETTINGS_OF_0_1 = {
    "focal": ("focal_gamma",),
    "asl": ("gamma_negative", "gamma_positive", "clip"),
    "class_balanced": ("beta",),
    "published_margin": ("beta", "weight_power", "max_margin"),
    "ldam": ("beta", "max_margin", "margin_scale", "defer"),
    "distribution_balanced": (
        "rebalance_floor",
        "rebalance_slope",
        "rebalance_center",
        "negative_tolerance",
        "tolerance_shift",
    ),
    "logit_adjusted": ("tau",),
    "entropy_maximization": ("unknown_weight",),
}
"""Name of a loss to the settings that it had in 0.1."""
FIELDS_OF_0_1 = frozenset(name for names in SETTINGS_OF_0_1.values() for name in names)
"""Names that were fields of `LossRecipe` itself in 0.1, side by side for all losses."""


def settings_class(name: str) -> type[LossSettings] | None:
    """The settings class of a loss, built in, registered or from an installed package; None for an unknown name."""
    point = None if name in SETTINGS else installed("trcgl.losses").get(name)
    if point:
        with suppress(Exception):  # training asks for the loss itself and then names the cause
            SETTINGS[name] = point.load().Settings
    return SETTINGS.get(name)


def unregistered(values: Mapping[str, Any]) -> LossSettings:
    """Stored settings of a loss that is not registered here: a trained network is used without its loss."""
    kind = make_dataclass("Settings", [(name, Any) for name in values], bases=(LossSettings,), frozen=True)
    return kind(**values)
