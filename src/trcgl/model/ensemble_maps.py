"""Where an ensemble looked: the mean over the maps of its members."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from trcgl.model.ensemble import Ensemble
from trcgl.model.folder import LoadedModel
from trcgl.model.maps import Kind, best_kind, maps, square_weights


def common_kind(members: Sequence[LoadedModel]) -> Kind:
    """The preferred kind of maps of all members; Grad-CAM where they differ, as every model supports it."""
    kinds = {best_kind(member) for member in members}
    return kinds.pop() if len(kinds) == 1 else "grad_cam"


def mean_maps(
    models: Ensemble, images: UInt8[np.ndarray, "batch side side"], kind: Kind
) -> Float[np.ndarray, "batch findings rows columns"]:
    """Mean over the members' maps, with the weights of the scores, on the finest grid of the members.

    The mean is divided by its maximum, as the map of each member is. Copies of test-time
    augmentation have no maps.

    Args:
        models: members that need a radiograph in one shape.
        images: radiographs of that shape.
        kind: a kind of maps that every member supports.
    """
    members = models.members
    if len(members) == 1:
        return maps(members[0], members[0].resized(images), kind)
    weights = np.ones(len(members)) if models.combination is None else np.array(models.combination.weights)
    each = []
    for member in members:
        order = [member.space.index(finding) for finding in models.findings]
        each.append(maps(member, member.resized(images), kind)[:, order])
    cells = max(grids.shape[-1] for grids in each)
    resized = []
    for grids in each:
        resize = square_weights(grids.shape[-1], cells)
        resized.append(resize @ grids.astype(np.float32) @ resize.T)
    mean = np.average(np.stack(resized), axis=0, weights=weights).astype(np.float32)
    highest = mean.max(axis=(2, 3), keepdims=True)
    return mean / np.maximum(highest, np.finfo(np.float32).tiny)
