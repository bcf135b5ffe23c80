"""Forward passes on a GPU that is not there: shapes, types and devices of tensors without memory or arithmetic.

PyTorch's fake tensors know their device. A network of any size runs in a fraction of a second; an operation whose
tensors are on different devices fails as on a GPU, and so does reading a value, which would make a GPU wait. Only
`backward` needs a GPU.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Precision of a recipe to the type in which autocast computes; other precisions have no autocast."""
_WIDEST_FLASH = 256  # widest attention head of the flash kernel
_COPIES = (torch.ops.aten._to_copy, torch.ops.aten.to)


@contextmanager
def fake_tensors(device: str = "cuda") -> Iterator[None]:
    """Within the block every new tensor is fake. Tensors from before, such as labels, take part as they are.

    `device`: on `cuda`, attention runs the fused kernels of a GPU, also where PyTorch is built for CPUs.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), FusedAttention() if device == "cuda" else nullcontext():
        yield


@contextmanager
def autocast(precision: str, device: str = "cuda") -> Iterator[None]:
    """What `torch.autocast` does for a precision of a recipe; that switches itself off where there is no GPU."""
    if precision not in AUTOCAST:
        yield
        return
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, AUTOCAST[precision])
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if not torch.autocast_decrement_nesting():
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, False)


def moved(module: Any, device: str = "cuda") -> Any:
    """Replace the weights and buffers of a module, which may be on the device `meta`, by fake ones; returns the module.

    Called within `fake_tensors`, and once: fake weights cannot be moved again.
    """

    def fake(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)

    return module._apply(fake)


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Within the block tensors on the device `cuda` are fake, and all others are real.

    It executes whole functions: random numbers, labels and schedules on the CPU have their true values.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), _RealCpu(), FusedAttention():
        yield


class _RealCpu(TorchDispatchMode):
    """Keeps an operation from the fake mode if it neither reads nor makes a tensor on `cuda`."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        leaves = tree_leaves((args, kwargs))
        fake = any(isinstance(leaf, FakeTensor) for leaf in leaves)
        onto = next((leaf for leaf in leaves if isinstance(leaf, torch.device) and leaf.type == "cuda"), None)
        if onto and not fake and func.overloadpacket in _COPIES:  # the fake mode would try it
            kind = (kwargs or {}).get("dtype") or args[0].dtype
            return torch.empty(args[0].shape, dtype=kind, device=onto)
        devices = {leaf.device for leaf in leaves if isinstance(leaf, Tensor)}
        if fake and len(devices) > 1 and func.name().startswith("aten::_foreach"):  # the fake mode checks other kinds
            raise RuntimeError(f"{func.name()}: found tensors on different devices, {devices}")
        if fake or onto:
            return func(*args, **(kwargs or {}))
        with _disable_current_modes():
            return func(*args, **(kwargs or {}))


class FusedAttention(TorchFunctionMode):
    """Attention as a GPU computes it: the flash kernel in half precision, else the memory-efficient kernel.

    PyTorch asks the GPU which kernel it has; without a GPU it would fall back to arithmetic that stores every weight.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _attention(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if torch.is_autocast_enabled("cuda"):
        kind = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
        attn_mask = attn_mask if attn_mask is None or attn_mask.dtype == torch.bool else attn_mask.to(kind)
    if attn_mask is None and query.dtype != torch.float32 and query.shape[-1] <= _WIDEST_FLASH:
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        return flash(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
    if attn_mask is not None:
        shape = (*query.shape[:-1], key.shape[-2])
        attn_mask = torch.zeros(shape, dtype=query.dtype, device=attn_mask.device)
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    gradient = torch.is_grad_enabled() and query.requires_grad
    return efficient(query, key, value, attn_mask, gradient, dropout_p, is_causal, scale=scale)[0]


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made within the block, and the most that were alive together (`peak`)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in self._known:
                self._known.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        return result

    def _free(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self.now -= size
