"""Where a network looked: attention maps of heads that have them, and Grad-CAM for any head and backbone."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from trcgl.core.errors import CheckpointError, DataError, RecipeError
from trcgl.core.recipe import UNUSED_GATE
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

    `trcgl.model.upsample` resizes a map to the pixels of the radiograph.

    Args:
        model: any head and backbone.
        images: square images of the model's size.
        kind: `attention` or `grad_cam`; `kinds` lists what the model supports.
        batch_size: images per forward pass.

    Returns:
        Float32 from 0 to 1.

    Raises:
        DataError: the images are not of the model's size.
        RecipeError: the head has no attention maps, or its attention is switched off.
    """
    if images.shape[1:] != (model.image_size, model.image_size):
        raise DataError(
            f"images are {images.shape[1]} x {images.shape[2]} pixels, the model takes {model.image_size} x "
            f"{model.image_size}. Fit them to {model.image_size} pixels first."
        )
    check_kind(model, kind)
    compute = _attention if kind == "attention" else _grad_cam
    device = model.network.mean.device
    parts = [np.empty((0, len(model.space.findings), 1, 1), np.float32)] if not len(images) else []
    # Tensors made in a caller's inference mode would never have gradients.
    with torch.inference_mode(False), torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
            feature = model.network.features(to_unit(batch))  # (B, D, h, w)
            found = compute(model.network.head, feature).float()  # (B, C, h, w)
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
    """Refuse a kind of maps that a model does not support.

    Raises:
        RecipeError: the head has no attention maps, or its attention is switched off.
    """
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


def _attention(
    head: Head, feature: Float[Tensor, "batch width rows columns"]
) -> Float[Tensor, "batch findings rows columns"]:
    found = head(feature).maps
    if found is None:
        raise CheckpointError("the head returned attention maps before and returns none now.")
    return found


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
