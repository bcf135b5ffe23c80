"""Turning a picture upright: the eight orientations of EXIF, and PatientOrientation (PS3.3 C.7.6.1.1.1)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

AS_STORED = 1
TURNS = {
    1: (False, False, False),
    2: (False, False, True),  # mirrored
    3: (False, True, True),  # upside down
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),  # lies on its left side
    7: (True, True, True),
    8: (True, True, False),  # lies on its right side
}
"""EXIF orientation to how a picture is turned upright: exchange rows and columns, then flip rows, then flip columns."""


def upright(pixels: UInt8[np.ndarray, "height width"], turn: int) -> UInt8[np.ndarray, "rows columns"]:
    """The picture turned upright."""
    exchanged, rows, columns = TURNS[turn]
    turned = pixels.T if exchanged else pixels
    return np.ascontiguousarray(turned[:: -1 if rows else 1, :: -1 if columns else 1])


def turn_of_patient(orientation: Sequence[str], view: str) -> int:
    """How to turn a frontal radiograph so that the patient's left is at the right and the feet are at the bottom.

    Args:
        orientation: PatientOrientation: the direction of the rows and of the columns. A value names the main direction
            with its first letter (L left, R right, H head, F foot).
        view: ViewPosition.

    Returns:
        A key of `TURNS`; `AS_STORED` for a lateral view, and where the directions are missing or contradictory.
    """
    if len(orientation) != 2 or not (view.upper().startswith(("AP", "PA")) or not view):
        return AS_STORED
    along_row, along_column = (value[:1].upper() for value in orientation)
    exchanged = along_row in "HF"
    across, down = (along_column, along_row) if exchanged else (along_row, along_column)
    if not across or not down or across not in "LR" or down not in "HF":
        return AS_STORED
    wanted = (exchanged, down == "H", across == "R")
    return next(turn for turn, steps in TURNS.items() if steps == wanted)
