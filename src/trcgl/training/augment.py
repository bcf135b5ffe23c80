"""Random augmentation of training images, a batch at a time on the training device.

The parameters of a whole batch are sampled on the CPU from (seed, batch number). A process with a part of the batch
takes its part of the parameters, so that augmentation does not depend on the number of processes.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from trcgl.core.randomness import generator
from trcgl.core.recipe import AugmentRecipe
from trcgl.training.quality import QualityParameters

_ERASED = (0.02, 0.1)  # smallest and largest area of the erased rectangle, as fractions of the image

Images = Float[Tensor, "batch 1 height width"]
Labels = Float[Tensor, "batch findings"]


@dataclass(frozen=True)
class AugmentParameters:
    """Augmentation of each image of a batch; every field is (B,) float32, lengths are fractions of the image side."""

    angle: Tensor         # radians, counter-clockwise
    shift_x: Tensor       # to the right
    shift_y: Tensor       # downwards
    scale: Tensor         # magnification
    flip: Tensor          # -1 mirrors left to right, 1 does not
    brightness: Tensor    # added gray value
    contrast: Tensor      # factor around `center`
    center: Tensor        # 1: the image mean, 0: black
    erase_x: Tensor       # left edge of the erased rectangle
    erase_y: Tensor       # upper edge of the erased rectangle
    erase_width: Tensor   # 0 erases nothing
    erase_height: Tensor

    def take(self, slots: Int[Tensor, " part"], device: torch.device | str = "cpu") -> "AugmentParameters":
        """The parameters of some images of the batch, on a device."""
        together = torch.stack([getattr(self, field.name) for field in fields(self)])
        return AugmentParameters(*together[:, slots.cpu()].to(device, non_blocking=True).unbind())


def sample_parameters(recipe: AugmentRecipe, size: int, seed: int, number: int) -> AugmentParameters:
    """Parameters for the `size` images of batch `number` of a run.

    Every random number is generated even if it is unused, so that a setting does not change the others.
    """
    rng = generator(seed, "augment", number)
    around = {name: rng.uniform(-1, 1, size) for name in ("angle", "x", "y", "scale", "brightness", "contrast")}
    mirrored = rng.random(size) < (0.5 if recipe.horizontal_flip else 0.0)
    erased = rng.random(size) < recipe.erasing
    area = rng.uniform(*_ERASED, size)
    aspect = 2 ** rng.uniform(-1, 1, size)
    width, height = np.sqrt(area * aspect), np.sqrt(area / aspect)
    erase_x, erase_y = rng.random(size) * (1 - width), rng.random(size) * (1 - height)
    moved = rng.random(size) < recipe.geometry_probability
    lit = rng.random(size) < recipe.intensity_probability
    values = {
        "angle": np.deg2rad(recipe.rotation) * around["angle"] * moved,
        "shift_x": recipe.translation * around["x"] * moved,
        "shift_y": recipe.translation * around["y"] * moved,
        "scale": 1 + recipe.scale * around["scale"] * moved,
        "flip": np.where(mirrored, -1.0, 1.0),
        "brightness": recipe.brightness * around["brightness"] * lit,
        "contrast": 1 + recipe.contrast * around["contrast"] * lit,
        "center": np.full(size, float(recipe.contrast_around == "mean")),
        "erase_x": erase_x,
        "erase_y": erase_y,
        "erase_width": np.where(erased, width, 0.0),
        "erase_height": np.where(erased, height, 0.0),
    }
    return AugmentParameters(**{name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()})


def augment(image: Images, parameters: AugmentParameters, quality: QualityParameters | None = None) -> Images:
    """Rotate, shift, scale and mirror in one bilinear resampling, then change brightness and contrast, then erase.

    `quality`: local contrast, changed before brightness; noise and holes, before erasing.

    Pixels from outside the image are 0, like letterbox bars and the air beside a patient; repeating the border would
    make streaks of shoulders and burned-in markers. Images are square, float32 in [0, 1].
    """
    image = _resample(image, parameters)
    if quality:
        image = quality.equalize(image)
    center = image.mean((1, 2, 3), keepdim=True) * _per_image(parameters.center)
    image = (image - center) * _per_image(parameters.contrast) + center + _per_image(parameters.brightness)
    image = image.clamp(0, 1)
    if quality:
        image = quality.degrade(image)
    return _erase(image, parameters)


def mixup(
    image: Images, label: Labels, partner: Int[Tensor, " batch"], share: Float[Tensor, " batch"]
) -> tuple[Images, Labels]:
    """Mix each image, and its labels, with its partner in the batch (mixup; Zhang et al. 2018, equation 1).

    `share` in [0, 1] is the weight of the image itself. A label that is unknown (NaN) in either image is unknown in the
    mixture.
    """
    image = torch.lerp(image[partner], image, _per_image(share))
    label = share[:, None] * label + (1 - share[:, None]) * label[partner]
    return image, label


def sample_shares(alpha: float, size: int, seed: int, number: int) -> Float[Tensor, " batch"]:
    """Shares for `mixup`, sampled from Beta(alpha, alpha), of the `size` images of batch `number` of a run."""
    rng = generator(seed, "mixup", number)
    return torch.from_numpy(rng.beta(alpha, alpha, size).astype(np.float32))


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _resample(image: Tensor, parameters: AugmentParameters) -> Tensor:
    batch, _, height, width = image.shape
    cosine, sine = parameters.angle.cos() / parameters.scale, parameters.angle.sin() / parameters.scale
    # Rows of the inverse map, from output to input coordinates. Coordinates run from -1 to 1, so a shift by the whole
    # side is 2.
    x, y = -2 * parameters.shift_x, -2 * parameters.shift_y
    first = torch.stack([parameters.flip * cosine, -parameters.flip * sine, parameters.flip * (cosine * x - sine * y)])
    second = torch.stack([sine, cosine, sine * x + cosine * y])
    inverse = torch.stack([first, second]).permute(2, 0, 1)  # (B, 2, 3)
    grid = functional.affine_grid(inverse, [batch, 1, height, width], align_corners=False)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _erase(image: Tensor, parameters: AugmentParameters) -> Tensor:
    height, width = image.shape[2:]
    x = (torch.arange(width, device=image.device) + 0.5) / width
    y = (torch.arange(height, device=image.device) + 0.5) / height
    left, top = parameters.erase_x[:, None], parameters.erase_y[:, None]
    columns = (x >= left) & (x < left + parameters.erase_width[:, None])   # (B, W)
    rows = (y >= top) & (y < top + parameters.erase_height[:, None])       # (B, H)
    erased = (rows[:, :, None] & columns[:, None, :])[:, None]             # (B, 1, H, W)
    return torch.where(erased, image.mean((1, 2, 3), keepdim=True), image)
