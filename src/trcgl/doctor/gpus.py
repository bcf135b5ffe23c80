"""The GPUs that this process may use."""

from typing import Any

import torch

from trcgl.core.machine import GIB


def gpus() -> list[dict[str, Any]]:
    """Name, memory in GiB, compute capability and native precisions, as Lightning calls them, of each GPU."""
    told = []
    for number in range(torch.cuda.device_count()):
        one = torch.cuda.get_device_properties(number)
        with torch.cuda.device(number):
            free, whole = torch.cuda.mem_get_info()
            bfloat = torch.cuda.is_bf16_supported(including_emulation=False)
        told.append(
            {
                "name": one.name,
                "memory_gib": round(whole / GIB, 1),
                "memory_free_gib": round(free / GIB, 1),
                "capability": f"{one.major}.{one.minor}",
                "precisions": ["32-true", *(["bf16-mixed"] if bfloat else []), "16-mixed"],
            }
        )
    return told


def cuda_build() -> str | None:
    """The version of CUDA that PyTorch is built for, or None where it is built for CPUs alone."""
    return torch.version.cuda
