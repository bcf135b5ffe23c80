"""One phantom with a finding more or less, the same in all else: how large a lesion is and how much it shows."""

from dataclasses import dataclass, replace

import numpy as np

from trcgl.phantom.render import Phantom, PhantomSpec, render

WHITE = 255


@dataclass(frozen=True)
class Lesion:
    """How a finding shows.

    Args:
        area: of its mask, as a share of the picture.
        contrast: mean absolute difference of gray within the mask to the same phantom without the finding, as a share
            of the range from black to white.
    """

    area: float
    contrast: float


def flipped(spec: PhantomSpec, finding: str) -> PhantomSpec:
    """The specification without the finding if it has it, with the finding if it has not."""
    if finding in spec.findings:
        return replace(spec, findings=tuple(one for one in spec.findings if one != finding))
    return replace(spec, findings=(*spec.findings, finding))


def lesion(spec: PhantomSpec, finding: str, phantom: Phantom | None = None) -> Lesion | None:
    """How a finding of a phantom shows; None where it shows nowhere.

    Args:
        spec: of the phantom, with the finding.
        finding: its name.
        phantom: what `draw` makes of the specification, where it is known already.
    """
    phantom = phantom or render(spec)
    mask = phantom.masks.get(finding)
    if mask is None:
        return None
    without = render(flipped(spec, finding)).pixels
    difference = np.abs(phantom.pixels.astype(np.int64) - without.astype(np.int64))
    return Lesion(float(mask.mean()), float(difference[mask].mean()) / WHITE)
