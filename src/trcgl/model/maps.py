"""Where a network looked: attention maps of heads that have them, and Grad-CAM for any head; and their resizing."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.recipe import UNUSED_GATE
from trcgl.imaging.radiograph import Placement
from trcgl.model.folder import LoadedModel
from trcgl.model.heads import Head
from trcgl.model.tensors import to_unit

Kind = Literal["attention", "grad_cam"]


def maps(
    model: LoadedModel, images: UInt8[np.ndarray, "batch height width"], kind: Kind, *, batch_size: int = 32
) -> Float[np.ndarray, "batch findings rows columns"]:
    """One map per image and finding on the grid of the feature map, row 0 at the top.

    `attention` is the head's own map: the weight of each place in the feature of the finding. `grad_cam` (Selvaraju et
    al., ICCV 2017) is computed at the feature map F that the head receives, from the logit l of the finding:

        relu(Σ_d α_d F_d),   α_d = mean_hw ∂l / ∂F_d

    Each map is divided by its maximum, so that 1 marks the strongest place and 0 a place without evidence. Nothing is
    subtracted, so a nearly uniform map looks uniform. A Grad-CAM without any evidence is 0 everywhere.

    `kinds` lists what a model supports. `to_radiograph` resizes a map to the pixels of the radiograph.

    Raises:
        DataError: the images are not of the model's size.
        RecipeError: the head has no attention maps, or its attention is switched off.
    """
    model.require_size(images)
    check_kind(model, kind)
    head, device = model.network.head, model.network.mean.device
    parts = [np.empty((0, len(model.space.findings), 1, 1), np.float32)] if not len(images) else []
    # Tensors made in a caller's inference mode would never have gradients.
    with torch.inference_mode(False), torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
            feature = model.network.features(to_unit(batch))  # (B, D, h, w)
            found = _grad_cam(head, feature) if kind == "grad_cam" else head(feature).maps  # (B, C, h, w)
            if found is None:
                raise CheckpointError("the head returned attention maps before and returns none now.")
            found = found.float()
            highest = found.amax((2, 3), keepdim=True)
            parts.append((found / highest.clamp_min(torch.finfo(found.dtype).tiny)).cpu().numpy())
    return np.concatenate(parts)


def kinds(model: LoadedModel) -> tuple[Kind, ...]:
    """The kinds of maps that a model supports, the preferred kind first.

    `attention` comes first if the gate of attention is at least `UNUSED_GATE`. With a negative gate, attention counts
    against a finding, so its map is not the reason for a score.
    """
    gate = _attention_gate(model)
    if not gate:
        return ("grad_cam",)
    return ("attention", "grad_cam") if gate >= UNUSED_GATE else ("grad_cam", "attention")


def best_kind(model: LoadedModel) -> Kind:
    """The preferred kind of maps of a model."""
    return kinds(model)[0]


def check_kind(model: LoadedModel, kind: Kind) -> None:
    """Refuse attention maps of a head that has none, or whose attention is switched off."""
    if kind == "grad_cam" or kind in kinds(model):
        return
    name = model.info["recipe"]["model"]["head"]
    if _attention_gate(model) is None:
        raise RecipeError(f"the head {name} has no attention maps. Ask for grad_cam, which every head supports.")
    raise RecipeError(f"the attention of this {name} head is switched off, so its maps explain nothing. Use grad_cam.")


def _attention_gate(model: LoadedModel) -> float | None:
    """Weight of attention in the logit; 1 for a head without this gate, None for a head without maps."""
    network = model.network
    with torch.inference_mode():
        if network.head(network.mean.new_zeros(1, network.backbone.width, 2, 2)).maps is None:
            return None
    return network.head.gates().get("attention", 1.0)


def _grad_cam(
    head: Head, feature: Float[Tensor, "batch width rows columns"]
) -> Float[Tensor, "batch findings rows columns"]:
    with torch.enable_grad():
        feature = feature.detach().requires_grad_()
        logits = head(feature).logits  # (B, C)
        found = []
        for finding in range(logits.shape[1]):
            # Images of a batch are independent in the head: the gradient of the sum is the gradient of each image.
            (slope,) = torch.autograd.grad(logits[:, finding].sum(), feature, retain_graph=True)
            weights = slope.mean((2, 3))  # (B, D)
            found.append(torch.einsum("bd,bdhw->bhw", weights, feature.detach()).relu())
    return torch.stack(found, dim=1)  # (B, C, h, w)


def to_square(maps: Num[np.ndarray, "*batch rows columns"], side: int) -> Float[np.ndarray, "*batch {side} {side}"]:
    """Resize maps to the `side` x `side` pixels of the square image, float32."""
    return to_radiograph(maps, (side, side), Placement(1.0, 1.0, 0.0, 0.0), side)


def square_weights(cells: int, side: int) -> Float[np.ndarray, "{side} {cells}"]:
    """Weights W that resize a square map to the square image: W · map · Wᵀ is `to_square` of it."""
    return _weights(side, cells, 1.0, 0.0, side)


def to_radiograph(
    maps: Num[np.ndarray, "*batch rows columns"], original_size: tuple[int, int], placement: Placement, side: int
) -> Float[np.ndarray, "*batch height width"]:
    """Resize maps to the full resolution of the radiograph; values on the padding of the square image are cropped.

    Bilinear between the centers of cells and pixels; beyond the outermost centers the value is constant. Pixel x of the
    file lies at (x · scale_x + offset_x) / side of the width of the square image, and likewise y. Thirty findings of a
    3,000 x 3,000 radiograph take a gigabyte: pass one finding at a time.

    `original_size` (rows, columns) and `placement` are those of the `Radiograph`; `side` is that of the square image.
    """
    downwards = _weights(original_size[0], maps.shape[-2], placement.scale_y, placement.offset_y, side)
    across = _weights(original_size[1], maps.shape[-1], placement.scale_x, placement.offset_x, side)
    return downwards @ maps.astype(np.float32) @ across.T


def _weights(pixels: int, cells: int, scale: float, offset: float, side: int) -> Float[np.ndarray, "pixels cells"]:
    """Interpolation weights of two neighboring cells for each pixel, which sum to 1."""
    place = ((np.arange(pixels) + 0.5) * scale + offset) / side * cells - 0.5
    place = np.clip(place, 0, cells - 1)
    before = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    share = (place - before).astype(np.float32)
    weights = np.zeros((pixels, cells), np.float32)
    rows = np.arange(pixels)
    weights[rows, before] = 1 - share
    weights[rows, np.minimum(before + 1, cells - 1)] += share
    return weights
