"""Estimate the memory that training needs on each device, from one forward pass over fake tensors.

The largest part, the activations, is counted: every tensor that autograd saves for the backward pass, each storage
once, copies of weights in half precision included. The rest is arithmetic, plus a stated allowance.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trcgl.core.machine import GIB
from trcgl.core.recipe import Recipe
from trcgl.model.backbone import checkpoint_gradients, freeze_stages
from trcgl.model.trcgl_net import TrcglNet
from trcgl.training.fake_gpu import autocast, fake_tensors, moved
from trcgl.training.losses import LOSSES
from trcgl.training.losses.base import elements, masked_mean

_LIBRARIES = GIB  # CUDA context, and workspaces of cuDNN and cuBLAS
_GRADIENTS_OF_ACTIVATIONS = 3  # largest activations that live beside the saved ones in the backward pass
_FRAGMENTS = 0.05  # share of the activations that is lost between blocks of the allocator
_ADAM = 2  # tensors of the optimizer per trained weight


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on each device at the end of a forward pass, when most memory is in use."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    """Moving average of the weights."""
    activations: int
    """Tensors saved for the backward pass; with gradient checkpointing, with those of the largest recomputed block.
    Without a backward pass, the most memory that the layers use together."""
    allowance: int
    """1 GiB for CUDA and its libraries, three times the largest saved tensor for gradients in the backward pass, and
    5 % of the activations for fragmentation."""

    @property
    def total(self) -> int:
        """Bytes in all."""
        state = self.weights + self.gradients + self.optimizer + self.average
        return state + self.activations + self.allowance


@dataclass
class Saved:
    """Bytes of the tensors that autograd saved in a forward pass."""

    total: int = 0
    largest: int = 0
    of_module: dict[str, int] = field(default_factory=dict)
    """Bytes saved by each module, its children included; a storage counts for the module that saves it first."""


@contextmanager
def count_saved(module: nn.Module) -> Iterator[Saved]:
    """Count what autograd saves within the block, without the weights and buffers of the module.

    The graph must live until the block ends, else the storage of a freed tensor could be used again.
    """
    saved, starts = Saved(), list[int]()
    seen = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            saved.total += storage.nbytes()
            saved.largest = max(saved.largest, storage.nbytes())
        return tensor

    def after(name: str) -> Callable[..., None]:
        def add(*_: object) -> None:
            saved.of_module[name] = saved.of_module.get(name, 0) + saved.total - starts.pop()

        return add

    handles = [
        handle
        for name, part in module.named_modules()
        for handle in (
            part.register_forward_pre_hook(lambda *_: starts.append(saved.total)),
            part.register_forward_hook(after(name)),
        )
    ]
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield saved
    finally:
        for handle in handles:
            handle.remove()


def saved_by(module: nn.Module, forward: Callable[[], Tensor]) -> Saved:
    """Count what autograd saves in `forward`, which calls the module and returns the loss."""
    with count_saved(module) as saved:
        loss = forward()  # keeps the graph until the block ends
        assert loss.requires_grad
    return saved


def estimate(
    modules: Iterable[nn.Module], saved: Saved, checkpointed: Saved | None, *, average: int = 0
) -> MemoryEstimate:
    """The estimate for `modules` from what a forward pass saves, without and with gradient checkpointing."""
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    trained = sum(tensor.nbytes for tensor in tensors if tensor.requires_grad)
    activations = saved.total
    if checkpointed:
        # A block that saves nothing under checkpointing is computed again, one block at a time.
        again = [size for name, size in saved.of_module.items() if checkpointed.of_module.get(name) == 0]
        activations = checkpointed.total + max(again, default=0)
    return MemoryEstimate(
        weights=sum(tensor.nbytes for tensor in tensors),
        gradients=trained,
        optimizer=_ADAM * trained,
        average=average,
        activations=activations,
        allowance=allowance(activations, saved.largest),
    )


def allowance(activations: int, largest: int) -> int:
    """The field `allowance` of an estimate, from the bytes of all activations and of the largest."""
    return _LIBRARIES + _GRADIENTS_OF_ACTIVATIONS * largest + round(_FRAGMENTS * activations)


def training_memory(recipe: Recipe, findings: int, *, devices: int = 1, device: str = "cuda") -> MemoryEstimate:
    """Memory of `trcgl train` on each device.

    Args:
        recipe: settings of the run; a text model for label embeddings is left out.
        findings: number of findings.
        devices: number of devices that share a batch.
        device: `cuda`, or `cpu` for the types that autocast computes in there.

    Raises:
        RecipeError: the network cannot be built.
    """
    settings, size = recipe.train, recipe.model.image_size
    rows = -(-settings.batch_size // devices)
    with torch.device("meta"):
        network = TrcglNet(recipe.model, findings, torch.eye(findings), load_weights=False)
    if settings.frozen_stages is not None:
        freeze_stages(network.backbone, settings.frozen_stages)
    warmup_and_retraining = settings.head_warmup_epochs + settings.retrain_epochs  # these epochs train the head alone
    if settings.frozen_backbone or warmup_and_retraining == settings.epochs:
        network.backbone.requires_grad_(False)
        network.norm.requires_grad_(False)
    loss = LOSSES[recipe.loss.name](recipe.loss.settings, torch.ones(findings), torch.ones(findings))
    with fake_tensors(device):
        moved(network, device).train()
        moved(loss, device)
        image, feature = torch.empty(rows, 1, size, size, device=device), None
        if settings.frozen_backbone:  # a batch consists of cached features
            with torch.no_grad():
                feature = network.backbone_features(image)

        def forward() -> Tensor:
            target, real = torch.zeros(rows, findings, device=device), torch.ones(rows, device=device)
            with autocast(settings.precision, device):
                output = network(image) if feature is None else network.from_backbone(feature)
                logits = [output.logits] if output.experts is None else list(output.experts)
                losses = [elements(loss, part, target, target == 0, real > 0) for part in logits]
            return torch.stack([masked_mean(elementwise, counted, real) for elementwise, counted in losses]).mean()

        saved, checkpointed = saved_by(network, forward), None
        if settings.gradient_checkpointing and feature is None:
            checkpoint_gradients(network.backbone)
            checkpointed = saved_by(network, forward)
        state = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
        return estimate([network], saved, checkpointed, average=state if settings.ema or settings.swa_epochs else 0)
