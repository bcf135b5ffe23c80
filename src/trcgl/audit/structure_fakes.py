"""Phantoms that fake a finding, to judge structure checks by: speckle in its place, and the true lesion blurred."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import binary_dilation, gaussian_filter

from trcgl.core.randomness import generator
from trcgl.phantom.render import PhantomSpec, render

Gray = UInt8[np.ndarray, "size size"]

_AROUND = 0.03
"""Sides of the image by which speckle reaches beyond the finding's mask: a mask of a line is a line."""
_FINE = 0.6
"""Standard deviation in pixels by which every other speckle is smoothed."""
_BLUR = 2.0
"""The same for a blurred lesion."""


@dataclass(frozen=True)
class Fakes:
    """One phantom in three ways.

    Args:
        true: with the finding as the program draws it.
        speckle: without it, but with noise of its mean contrast where it would be.
        blurred: what the finding changes in the picture, blurred by two pixels.
    """

    true: Gray
    speckle: Gray
    blurred: Gray


def fakes(spec: PhantomSpec, finding: str) -> Fakes:
    """The phantom of a specification that has the finding, and its two fakes."""
    there = render(spec)
    without = render(replace(spec, findings=tuple(one for one in spec.findings if one != finding))).pixels
    added = there.pixels.astype(np.float32) - without
    rng = generator(spec.seed, "structure fakes", spec.image, finding)
    # Exponential, as the intensity of speckle is.
    grain = rng.exponential(1, without.shape)
    if rng.random() < 0.5:
        smooth = gaussian_filter(grain, _FINE)
        grain = np.maximum(1 + (smooth - 1) / smooth.std(), 0)
    mask = there.masks[finding]
    region = binary_dilation(mask, iterations=max(1, round(_AROUND * spec.size)))
    speckle = without + region * float(added[mask].mean()) * grain
    return Fakes(there.pixels, _gray(speckle), _gray(without + gaussian_filter(added, _BLUR)))


def _gray(values: Float[np.ndarray, "size size"]) -> Gray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
