"""Boxes around masks."""

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import binary_dilation, find_objects, label

JOINED = 0.05  # parts of a mask closer than this (in sides of the image) share a box: dots of a cluster, wires of a row


def boxes(mask: Bool[np.ndarray, "size size"]) -> list[tuple[int, int, int, int]]:
    """x, y, width and height in pixels of every separate part of a mask."""
    reach = max(1, round(JOINED * mask.shape[0] / 2))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    top, left = max(rows[0] - reach, 0), max(columns[0] - reach, 0)
    window = mask[top : rows[-1] + reach + 1, left : columns[-1] + reach + 1]
    parts, _ = label(binary_dilation(window, np.ones((2 * reach + 1,) * 2, bool)))
    found = []
    for part, area in enumerate(find_objects(parts), start=1):
        inside = window[area] & (parts[area] == part)
        y, x = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        corner = (left + area[1].start + x[0], top + area[0].start + y[0])
        found.append((int(corner[0]), int(corner[1]), int(x[-1] - x[0] + 1), int(y[-1] - y[0] + 1)))
    return found
