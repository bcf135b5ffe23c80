"""Where a network looked: attention maps of a head that has them, and Grad-CAM of any head on any backbone."""

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from trcgl.core.errors import DataError, RecipeError
from trcgl.core.recipe import UNUSED_GATE
from trcgl.model.folder import LoadedModel
from trcgl.model.heads import Head
from trcgl.model.tensors import to_unit

Kind = Literal["attention", "grad_cam"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def maps(
    model: LoadedModel, images: UInt8[np.ndarray, "batch height width"], kind: Kind, *, batch_size: int = 32
) -> Float[np.ndarray, "batch findings rows columns"]:
    """One map per image and finding on the grid of the feature map, row 0 at the top.

    `attention` is the head's own: how much each place counts in the finding's feature. `grad_cam` (Selvaraju et al.,
    ICCV 2017) is taken at the feature map F that the head reads, of the finding's logit l:

        relu(Σ_d α_d F_d),   α_d = mean_hw ∂l / ∂F_d

    Each map is divided by its maximum: 1 where the finding is sought most, 0 where nothing counts, and a map that
    prefers no place is 1 everywhere. Nothing is subtracted, so a map that is nearly uniform looks it. A Grad-CAM that
    finds no evidence for the finding anywhere is 0 everywhere.

    `trcgl.model.upsample` brings a map to the radiograph's own pixels.

    Args:
        model: with any head and backbone.
        images: square pictures of the model's size.
        kind: see above; `best_kind` names one that the head supports.
        batch_size: images that pass the network at once.

    Returns:
        Float32 from 0 to 1.

    Raises:
        DataError: the images are not of the model's size.
        RecipeError: `attention` is asked of a head that has none, or does not use it.
    """
    if images.shape[1:] != (model.image_size, model.image_size):
        raise DataError(
            f"images are {images.shape[1]} x {images.shape[2]} pixels, the model takes {model.image_size} x "
            f"{model.image_size}. Fit them to {model.image_size} pixels first."
        )
    check_kind(model, kind)
    look = _attention if kind == "attention" else _grad_cam
    device = model.network.mean.device
    parts = [np.empty((0, len(model.space.findings), 1, 1), np.float32)] if not len(images) else []
    # A caller may be in inference mode, whose tensors never have gradients.
    with torch.inference_mode(False), torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
            feature = model.network.features(to_unit(batch))  # (B, D, h, w)
            found = look(model.network.head, feature).float()  # (B, C, h, w)
            highest = found.amax((2, 3), keepdim=True)
            parts.append((found / highest.clamp_min(torch.finfo(found.dtype).tiny)).cpu().numpy())
    return np.concatenate(parts)


def best_kind(model: LoadedModel) -> Kind:
    """`attention` where the head has maps and a gate of at least `UNUSED_GATE` lets them count, else `grad_cam`.

    Where the gate is negative, what attention gathers speaks against a finding: its map is not the reason for a score.
    """
    return "attention" if _has_maps(model) and _attention_gate(model) >= UNUSED_GATE else "grad_cam"


def kinds(model: LoadedModel) -> tuple[Kind, ...]:
    """The kinds of maps that a model has, the one of `best_kind` first."""
    if not _has_maps(model) or _attention_gate(model) == 0:
        return ("grad_cam",)
    return KINDS if best_kind(model) == "attention" else tuple(reversed(KINDS))


def check_kind(model: LoadedModel, kind: Kind) -> None:
    """Refuse maps that a model does not have.

    Raises:
        RecipeError: `attention` is asked of a head that has none, or does not use it.
    """
    if kind != "attention":
        return
    name = model.info["recipe"]["model"]["head"]
    if not _has_maps(model):
        raise RecipeError(f"the head {name} has no attention maps. Ask for grad_cam, which every head has.")
    if _attention_gate(model) == 0:
        raise RecipeError(f"the attention of this {name} head is switched off: its maps explain nothing. Use grad_cam.")


def _has_maps(model: LoadedModel) -> bool:
    network = model.network
    with torch.inference_mode():
        return network.head(network.mean.new_zeros(1, network.backbone.width, 2, 2)).maps is not None


def _attention_gate(model: LoadedModel) -> float:
    """How much attention counts in the logit; 1 in a head whose logit is made of nothing else."""
    return model.network.head.gates().get("attention", 1.0)


def _attention(
    head: Head, feature: Float[Tensor, "batch width rows columns"]
) -> Float[Tensor, "batch findings rows columns"]:
    found = head(feature).maps
    assert found is not None
    return found


def _grad_cam(
    head: Head, feature: Float[Tensor, "batch width rows columns"]
) -> Float[Tensor, "batch findings rows columns"]:
    with torch.enable_grad():
        feature = feature.detach().requires_grad_()
        logits = head(feature).logits  # (B, C)
        found = []
        for finding in range(logits.shape[1]):
            # Images of a batch do not meet in the head, so the gradient of their sum is that of each.
            (slope,) = torch.autograd.grad(logits[:, finding].sum(), feature, retain_graph=True)
            weights = slope.mean((2, 3))  # (B, D)
            found.append(torch.einsum("bd,bdhw->bhw", weights, feature.detach()).relu())
    return torch.stack(found, dim=1)  # (B, C, h, w)
