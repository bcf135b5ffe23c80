"""Scores and maps as the interface writes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from trcgl.imaging.file_process import ReadFile

MAP_SIDE = 224
"""Pixels of the longer side of a map: the grid behind it is coarser still."""


def ranked(
    scores: Float[np.ndarray, " findings"], known: Sequence[dict[str, Any]], drawn: Sequence[str] | None
) -> list[dict[str, Any]]:
    """The findings, the highest score first.

    Args:
        scores: float32, in the order of `known`.
        known: name, group and threshold of each finding.
        drawn: the map of each finding, or None.
    """
    rows = []
    for place in np.argsort(-scores, kind="stable").tolist():
        threshold = known[place]["threshold"]
        rows.append(
            {
                **known[place],
                "score": float(scores[place]),
                # In float32, as `trcgl predict` compares.
                "called": None if threshold is None else bool(scores[place] >= threshold),
                "map": drawn[place] if drawn else None,
            }
        )
    return rows


def shown_maps(grids: Float[np.ndarray, "findings rows columns"], read: ReadFile) -> list[str]:
    """Each map as a picture in the proportions of the radiograph, as the data URI of a PNG.

    Args:
        grids: from 0 to 1, over the square that the network saw.
        read: the radiograph.
    """
    from trcgl.predict.overlay import heat_uri, small_map

    side = len(read.pictures[0])
    return [heat_uri(small_map(one, read.original_size, read.placements[0], side, MAP_SIDE)) for one in grids]
