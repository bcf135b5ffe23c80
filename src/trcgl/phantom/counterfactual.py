"""A phantom with a single finding added or removed: the size and contrast of a lesion."""

from dataclasses import dataclass, replace

import numpy as np

from trcgl.phantom.render import Phantom, PhantomSpec, render

WHITE = 255


@dataclass(frozen=True)
class Lesion:
    """Size and contrast of a finding in a phantom.

    Args:
        area: area of its mask as a share of the image.
        contrast: mean absolute difference of gray within the mask to the same phantom without the finding, as a share
            of the range from black to white.
    """

    area: float
    contrast: float


def flipped(spec: PhantomSpec, finding: str) -> PhantomSpec:
    """The specification with the finding added, or removed if it was there."""
    if finding in spec.findings:
        return replace(spec, findings=tuple(name for name in spec.findings if name != finding))
    return replace(spec, findings=(*spec.findings, finding))


def lesion(spec: PhantomSpec, finding: str, phantom: Phantom | None = None) -> Lesion | None:
    """Size and contrast of a finding; None if it is not visible."""
    phantom = phantom or render(spec)
    mask = phantom.masks.get(finding)
    if mask is None:
        return None
    without = render(flipped(spec, finding)).pixels
    difference = np.abs(phantom.pixels.astype(np.int64) - without.astype(np.int64))
    return Lesion(float(mask.mean()), float(difference[mask].mean()) / WHITE)
