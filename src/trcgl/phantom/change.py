"""The effect of a finding on a radiograph."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Change:
    """The effect of a finding.

    Args:
        attenuation: added to the attenuation of the beam; negative where air replaces tissue.
        mask: where the finding shows.
        vessels: factor on the vessels of the lung, 0 where they are gone or hidden; None leaves them unchanged.
        facts: measures of the lesion for structure checks: lengths and places in sides of the image, angles in degrees.
    """

    attenuation: Float[np.ndarray, "size size"]
    mask: Bool[np.ndarray, "size size"]
    vessels: Float[np.ndarray, "size size"] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
