"""Options of an audit."""

from dataclasses import dataclass
from typing import Literal

from trcgl.core.errors import RecipeError

HeldOut = Literal["both", "val", "test"]


@dataclass(frozen=True)
class AuditOptions:
    """What to audit and how thoroughly."""

    findings: tuple[str, ...] = ()
    """Findings to audit; default: the findings the synthetic folder was generated for."""
    each: int = 200
    """Synthetic images with each finding, and the same number without it; fewer than 200 give at most an indicative
    verdict."""
    sweep_each: int = 40
    """Synthetic images per finding at each guidance scale; 0 skips the guidance sweep."""
    handwritten_each: int = 100
    """Synthetic images per finding without the learned context tokens; 0 skips that comparison."""
    held_out: HeldOut = "both"
    """Splits whose real images are the reference: val, test or both."""
    features: tuple[str, ...] = ("run:AUDITOR", "random")
    """Feature spaces in which images are compared: `run:AUDITOR` (of the auditor), `random` (of an untrained network),
    `run:FOLDER` or `timm:MODEL`."""
    precision: Literal["32-true", "bf16"] | None = None
    """Precision of the generator; default: the precision recorded in the synthetic folder."""
    batch_size: int = 64
    """Images generated at once; changes results by rounding only."""
    seed: int = 0
    """Seed for resampling patients; images are generated with the seed of the synthetic folder."""

    def __post_init__(self) -> None:
        side_sheets = {name: getattr(self, name) for name in ("sweep_each", "handwritten_each")}
        limits = [
            ("each", self.each >= 2, "at least 2"),
            *(
                (name, each == 0 or 2 <= each <= self.each, "0, or from 2 to --each")
                for name, each in side_sheets.items()
            ),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("features", len(self.features) >= 1, "at least one feature space, preferably two"),
        ]
        for name, valid, expected in limits:
            if not valid:
                raise RecipeError(f"--{name.replace('_', '-')} {getattr(self, name)}: give {expected}.")
