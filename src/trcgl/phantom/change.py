"""What a finding does to a radiograph."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Change:
    """The effect of one finding.

    Args:
        attenuation: added to the attenuation of the beam; negative where air took the place of tissue.
        mask: where the finding shows.
        vessels: factor on the lung's vessels, 0 where they are gone or hidden; None leaves them.
        facts: what was drawn, for checks of structure: lengths and places in sides of the image, angles in degrees.
    """

    attenuation: Float[np.ndarray, "size size"]
    mask: Bool[np.ndarray, "size size"]
    vessels: Float[np.ndarray, "size size"] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
