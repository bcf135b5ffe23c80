"""Views of test-time augmentation: changed copies of a radiograph whose scores are averaged with its own."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn import functional

from trcgl.core.errors import RecipeError

FLIP = "flip"
SMALLEST, LARGEST = 0.5, 2.0
"""Range of the magnification of a copy."""

Square = UInt8[np.ndarray, "batch side side"]


def checked_views(names: Sequence[str]) -> tuple[str, ...]:
    """Names of copies in one spelling: `flip`, or a magnification such as `0.9` or `1.1`.

    Raises:
        RecipeError: a name is neither `flip` nor a magnification between 0.5 and 2 other than 1, or occurs twice.
    """
    views: list[str] = []
    for name in names:
        view = name if name == FLIP else _magnification(name)
        if view in views:
            raise RecipeError(f"--tta {name}: this copy is given twice. Give each copy once.")
        views.append(view)
    return tuple(views)


def _magnification(name: str) -> str:
    try:
        scale = float(name)
    except ValueError:
        scale = float("nan")
    if not SMALLEST <= scale <= LARGEST or scale == 1:
        raise RecipeError(
            f"--tta {name}: no such copy. Give flip, or magnifications between {SMALLEST:g} and {LARGEST:g} such as "
            "0.9 and 1.1."
        )
    return f"{scale:g}"


def seen_as(images: Square, view: str) -> Square:
    """The mirrored or scaled copies of images; `view` is a name from `checked_views`.

    `flip` mirrors left to right. A magnification enlarges or shrinks around the center (bilinear, rounded to 8 bits);
    pixels from outside the image are 0, as in training.
    """
    if view == FLIP:
        return images[:, :, ::-1]
    scale = float(view)
    batch = torch.from_numpy(np.array(images, order="C"))[:, None].float()
    inverse = torch.tensor([[1 / scale, 0.0, 0.0], [0.0, 1 / scale, 0.0]]).expand(len(images), 2, 3)
    grid = functional.affine_grid(inverse, list(batch.shape), align_corners=False)
    resampled = functional.grid_sample(batch, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return resampled[:, 0].round().clamp(0, 255).to(torch.uint8).numpy()
