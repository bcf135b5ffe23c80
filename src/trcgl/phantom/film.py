"""From attenuation to a gray image: turn, dose, quantum noise, film curve, marker, shutter."""

import numpy as np
from jaxtyping import UInt8

from trcgl.phantom.anatomy import Exposure
from trcgl.phantom.canvas import Canvas, Layer

Pixels = UInt8[np.ndarray, "size size"]
MARKER = np.array([[0.0, 0.0], [0.0, 0.04], [0.025, 0.04]])  # the letter L in body coordinates


def expose(attenuation: Layer, canvas: Canvas, taken: Exposure, rng: np.random.Generator) -> Pixels:
    """Expose the radiograph of an attenuation T, 0 in free air.

    The gray value is 1 - exp(-k T): steep at low attenuation, flat at high attenuation. Quantum noise of the
    transmitted intensity exp(-T) has a relative standard deviation that grows as exp(T / 2).
    """
    total = np.maximum(attenuation, 0)
    total = total * (1 + np.float32(0.10 * taken.turn) * canvas.x)
    if taken.marker:
        place = np.array([0.40, 0.045])
        total = total + 2.2 * np.minimum(canvas.strokes((MARKER + place)[None], 0.010), 1)
    noise = rng.standard_normal(total.shape, np.float32)
    grain = np.float32(0.016 * taken.noise) * np.exp(np.minimum(total, 3) * 0.5)
    total = np.maximum(total + noise * grain, 0)
    gray = 1 - np.exp(-np.float32(0.80 / taken.dose) * total)
    gray = np.clip((gray - 0.5) * np.float32(1.22 * taken.contrast) + 0.52, 0, 1)
    left, right, top, bottom = (round(float(border) * canvas.size) for border in taken.shutter)
    gray[:, :left] = gray[:, canvas.size - right :] = 0
    gray[:top] = gray[canvas.size - bottom :] = 0
    return (gray * 255 + 0.5).astype(np.uint8)
