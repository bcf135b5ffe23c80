"""Random changes of the quality of some images of a batch: local contrast, noise, and black squares.

Values are those that the authors of TRCGL-Net wrote for albumentations (CXR.py of their release). They are sampled on
the CPU from (seed, batch number), and only the chosen images are computed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trcgl.core.randomness import generator
from trcgl.core.recipe import AugmentRecipe
from trcgl.training.clahe import clahe

_CLIP_LIMIT = (1.0, 2.0)
_NOISE_VARIANCE = (1.0, 5.0)  # in gray levels of 255, squared
_HOLES, _HOLE = 6, 24 / 224  # number of squares, and their side as a fraction of the image side

Images = Float[Tensor, "batch 1 side side"]


@dataclass(frozen=True)
class QualityParameters:
    """Changes of each image of a batch."""

    clip_limit: Float[np.ndarray, " batch"]  # 0: no equalization
    noise_std: Float[np.ndarray, " batch"]  # as a fraction of the gray range; 0: no noise
    noise_seed: Int[np.ndarray, " batch"]
    holes: Float[np.ndarray, "batch holes 2"]  # row and column as fractions of the free side; NaN: no holes

    def take(self, slots: Int[np.ndarray, " part"]) -> "QualityParameters":
        """The parameters of some images of the batch."""
        return QualityParameters(
            self.clip_limit[slots], self.noise_std[slots], self.noise_seed[slots], self.holes[slots]
        )

    def equalize(self, image: Images) -> Images:
        """CLAHE of the chosen images in [0, 1]."""
        chosen = np.flatnonzero(self.clip_limit)
        if not len(chosen):
            return image
        limit = torch.from_numpy(self.clip_limit[chosen].astype(np.float32)).to(image.device)
        rows = torch.from_numpy(chosen).to(image.device)
        return image.index_copy(0, rows, clahe(image[rows], limit))

    def degrade(self, image: Images) -> Images:
        """Add noise to images in [0, 1], then hide squares."""
        side = image.shape[-1]
        image = image.clone()
        for row in np.flatnonzero(self.noise_std).tolist():
            source = torch.Generator().manual_seed(int(self.noise_seed[row]))
            noise = torch.randn(1, side, side, generator=source) * float(self.noise_std[row])
            image[row] = (image[row] + noise.to(image.device)).clamp(0, 1)
        hole = round(_HOLE * side)
        for row in np.flatnonzero(~np.isnan(self.holes[:, 0, 0])).tolist():
            for top, left in (self.holes[row] * (side - hole + 1)).astype(int).tolist():
                image[row, :, top : top + hole, left : left + hole] = 0
        return image


def sample_quality(recipe: AugmentRecipe, size: int, seed: int, number: int) -> QualityParameters | None:
    """Parameters for the `size` images of batch `number` of a run; None if the recipe has no such change."""
    if not (recipe.clahe or recipe.noise or recipe.holes):
        return None
    rng = generator(seed, "quality", number)
    equalized, noisy, hidden = rng.random((3, size)) < np.array([[recipe.clahe], [recipe.noise], [recipe.holes]])
    return QualityParameters(
        clip_limit=np.where(equalized, rng.uniform(*_CLIP_LIMIT, size), 0.0),
        noise_std=np.where(noisy, np.sqrt(rng.uniform(*_NOISE_VARIANCE, size)) / 255, 0.0),
        noise_seed=rng.integers(2**62, size=size),
        holes=np.where(hidden[:, None, None], rng.random((size, _HOLES, 2)), np.nan),
    )
