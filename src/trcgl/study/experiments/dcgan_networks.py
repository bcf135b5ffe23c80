"""The two networks of a conditional DCGAN."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST, LARGEST = 32, 256
"""Sides of the images that a DCGAN can sample, in pixels."""
_DEEPEST = 8  # times `width`: channels of the smallest maps, as published


def sampled_side(side: int) -> int:
    """The largest side up to `side` and 256 that is 4, 5, 6 or 7 times a power of 2, as the layers of a DCGAN need."""
    side = min(side, LARGEST)
    return side // 2 ** doublings(side) * 2 ** doublings(side)


def doublings(side: int) -> int:
    """Number of doublings from a feature map of 4 to 7 pixels to `side`."""
    return (side // 4).bit_length() - 1


class DcganGenerator(nn.Module):
    """Noise and labels in, an image out (Radford, Metz & Chintala 2016; the condition: Mirza & Osindero 2014).

        x = tanh(deconvolutions([z, y]))        batch norm and ReLU between them, kernels of 4, stride 2

    Args:
        findings: number of labels C.
        side: of the image, as `sampled_side` allows.
        width: channels of the largest maps; they double towards the smallest, up to eight times.
        noise: length of z.
    """

    def __init__(self, findings: int, side: int, width: int, noise: int) -> None:
        super().__init__()
        steps = doublings(side)
        channels = _channels(steps, width)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(noise + findings, channels[-1], side >> steps, bias=False),
            nn.BatchNorm2d(channels[-1]),
            nn.ReLU(),
        ]
        for wide, narrow in zip(channels[:0:-1], channels[-2::-1], strict=True):
            layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels[0], 1, 4, 2, 1), nn.Tanh())
        self.apply(_start)

    def forward(
        self, noise: Float[Tensor, "batch noise"], labels: Float[Tensor, "batch findings"]
    ) -> Float[Tensor, "batch 1 side side"]:
        """Images in [-1, 1]."""
        return self.layers(torch.cat([noise, labels], dim=1)[:, :, None, None])


class DcganDiscriminator(nn.Module):
    """An image and labels in, a logit out: is it a real image of a patient with these labels?

        l = W · lrelu([convolutions(x), y])     batch norm and leaky ReLU between them, kernels of 4, stride 2

    Labels join the smallest map, everywhere on it, as in Reed et al. 2016; Mirza & Osindero 2014 have no convolutions.

    Args:
        findings: number of labels C.
        side: of the image, as `sampled_side` allows.
        width: channels of the largest maps.
    """

    def __init__(self, findings: int, side: int, width: int) -> None:
        super().__init__()
        steps = doublings(side)
        channels = _channels(steps, width)
        layers: list[nn.Module] = [nn.Conv2d(1, channels[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for narrow, wide in pairwise(channels):
            layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.join = nn.Sequential(nn.Conv2d(channels[-1] + findings, channels[-1], 1), nn.LeakyReLU(0.2))
        self.judge = nn.Conv2d(channels[-1], 1, side >> steps)  # stored checkpoints have this name
        self.apply(_start)

    def forward(
        self, image: Float[Tensor, "batch 1 side side"], *labels: Float[Tensor, "batch findings"]
    ) -> tuple[Float[Tensor, " batch"], ...]:
        """Logits, above 0 for real, of the same images with each of several labels."""
        feature = self.layers(image)  # (B, D, g, g)
        return tuple(self._logit(feature, labels_of) for labels_of in labels)

    def _logit(self, feature: Tensor, labels: Tensor) -> Float[Tensor, " batch"]:
        everywhere = labels[:, :, None, None].expand(-1, -1, *feature.shape[2:])  # (B, C, g, g)
        return self.judge(self.join(torch.cat([feature, everywhere], dim=1)))[:, 0, 0, 0]


def _channels(steps: int, width: int) -> list[int]:
    """Channels from the largest map to the smallest."""
    return [width * min(_DEEPEST, 2**step) for step in range(steps)]


def _start(layer: nn.Module) -> None:
    """Initial weights as published: N(0, 0.02), around 1 for the factors of a batch norm."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
