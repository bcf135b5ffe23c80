"""Contrast-limited adaptive histogram equalization (CLAHE; Zuiderveld 1994) of batches, as OpenCV computes it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

_TILES = 8  # in each direction
_LEVELS = 256


def clahe(
    image: Float[Tensor, "batch 1 side side"], limit: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 1 side side"]:
    """Equalize the lightness of gray images in [0, 1] within 8 × 8 tiles, and interpolate between tiles.

    As albumentations does for colored images, the 256 gray levels become levels of CIE lightness, are equalized, and
    become gray levels again. `limit` is OpenCV's clip limit: the largest count of a level, as a multiple of the mean.
    """
    side = image.shape[-1]
    to_lightness, to_gray = (table.to(image.device) for table in _lightness_tables())
    level = to_lightness[(image[:, 0] * (_LEVELS - 1)).round().long()]  # (B, H, W)
    extra = -side % _TILES
    padded = functional.pad(level[:, None].float(), (0, extra, 0, extra), mode="reflect")[:, 0].long()
    tile = padded.shape[-1] // _TILES
    tables = _tables(padded, tile, limit)  # (B, 64, 256)

    place = torch.arange(side, device=image.device) / tile - 0.5
    share = place - place.floor()  # (H,) of the second tile
    first, second = place.floor().long().clamp(min=0), (place.floor().long() + 1).clamp(max=_TILES - 1)

    def of_tiles(rows: Int[Tensor, " side"], columns: Int[Tensor, " side"]) -> Tensor:
        tile_of = rows[:, None] * _TILES + columns  # (H, W)
        return tables.flatten(1).gather(1, (tile_of * _LEVELS + level).flatten(1)).view(level.shape)

    upper = torch.lerp(of_tiles(first, first), of_tiles(first, second), share)
    lower = torch.lerp(of_tiles(second, first), of_tiles(second, second), share)
    equalized = torch.lerp(upper, lower, share[:, None]).round().long()  # (B, H, W)
    return to_gray[equalized][:, None] / (_LEVELS - 1)


def _tables(level: Tensor, tile: int, limit: Tensor) -> Tensor:
    """The equalized level to each level, for each tile."""
    batch, pixels = len(level), tile * tile
    tiles = level.view(batch, _TILES, tile, _TILES, tile).transpose(2, 3).reshape(batch * _TILES**2, pixels)
    place = torch.arange(len(tiles), device=level.device)[:, None] * _LEVELS + tiles
    counts = torch.zeros(len(tiles) * _LEVELS, dtype=torch.long, device=level.device)
    counts = counts.scatter_add_(0, place.flatten(), torch.ones_like(place.flatten())).view(batch, _TILES**2, _LEVELS)
    most = (limit * pixels / _LEVELS).long().clamp(min=1)[:, None, None]
    excess = (counts - most).clamp(min=0).sum(-1, keepdim=True)
    counts = counts.clamp(max=most) + excess // _LEVELS
    rest = excess % _LEVELS  # spread evenly over the levels
    step = (_LEVELS // rest.clamp(min=1)).clamp(min=1)
    levels = torch.arange(_LEVELS, device=level.device)
    counts = counts + ((levels % step == 0) & (levels // step < rest)).long()
    return (counts.cumsum(-1) * ((_LEVELS - 1) / pixels)).round().clamp(max=_LEVELS - 1)


def _lightness_tables() -> tuple[Tensor, Tensor]:
    """Gray level (sRGB) to level of CIE lightness, with the fixed-point steps of OpenCV's conversion, and back."""
    level = torch.arange(_LEVELS, dtype=torch.float64) / (_LEVELS - 1)
    linear = torch.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    linear = (linear * 2040).round() / 2040  # 255 levels, 3 more bits
    root = torch.where(linear > 216 / 24389, linear ** (1 / 3), linear * 841 / 108 + 16 / 116)
    to_lightness = (((root * 2**15).round() * 296 - 0.16 * 255 * 2**15) / 2**15 + 0.5).floor()
    linear = torch.where(level > 0.08, ((level + 0.16) / 1.16) ** 3, level / 9.033)
    gray = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return to_lightness.long().clamp(0, _LEVELS - 1), (gray * (_LEVELS - 1)).round().float()
