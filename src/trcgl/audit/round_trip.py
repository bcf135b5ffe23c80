"""Real images encoded and decoded by the autoencoder of a generator, and how much their pixels change."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8

from trcgl.core.progress import track
from trcgl.generate.autoencoder import decode, encode
from trcgl.generate.pipeline import Generator
from trcgl.model.tensors import at_size


@dataclass(frozen=True)
class PixelError:
    """Change of the pixels in gray levels (0 to 255)."""

    images: int  # number of images
    largest: int  # largest absolute difference of any pixel
    mean: float  # mean absolute difference

    def with_more(self, other: "PixelError") -> "PixelError":
        """The error over both sets of images, which have the same size."""
        images = self.images + other.images
        mean = (self.mean * self.images + other.mean * other.images) / max(1, images)
        return PixelError(images, max(self.largest, other.largest), mean)

    @property
    def lossless(self) -> bool:
        """Whether every pixel came back unchanged."""
        return self.largest == 0


@torch.inference_mode()
def round_trip(
    generator: Generator,
    images: UInt8[np.ndarray, "store height width"],
    rows: Int[np.ndarray, " rows"],
    batch_size: int = 64,
) -> UInt8[np.ndarray, "rows height width"]:
    """Encode and decode rows of an image store; the output is gray and rounded as synthetic images are.

    Images are resized to the generator's size and back if it generates at another size, because that also limits what
    the generator can show. The computation runs on the generator's device.
    """
    side, device = images.shape[1], generator.unet.device
    decoded = np.empty((len(rows), *images.shape[1:]), np.uint8)
    for start in track(range(0, len(rows), batch_size), what="encode and decode"):
        part = slice(start, start + batch_size)
        batch = at_size(torch.from_numpy(images[rows[part]]), generator.image_size).to(device)
        pixels = batch[:, None].float() / 127.5 - 1
        output = decode(generator.vae, encode(generator.vae, pixels).mode())
        gray = ((output.float().mean(1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        decoded[part] = at_size(gray.cpu(), side).numpy()
    return decoded


def pixel_error(
    images: UInt8[np.ndarray, "store height width"],
    rows: Int[np.ndarray, " rows"],
    decoded: UInt8[np.ndarray, "rows height width"],
    batch_size: int = 256,
) -> PixelError:
    """Compare images with their decoded versions."""
    largest, total = 0, 0.0
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        difference = np.abs(images[rows[part]].astype(np.int16) - decoded[part])
        largest, total = max(largest, int(difference.max())), total + float(difference.sum())
    return PixelError(len(rows), largest, total / decoded.size if decoded.size else 0.0)
