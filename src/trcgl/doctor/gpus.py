"""The GPUs that this process may use."""

from typing import Any

import torch

from trcgl.core.machine import GIB


def gpus() -> list[dict[str, Any]]:
    """Name, memory in GiB, compute capability and native precisions (in Lightning's terms) of each GPU."""
    found = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        with torch.cuda.device(number):
            free, whole = torch.cuda.mem_get_info()
            bfloat = torch.cuda.is_bf16_supported(including_emulation=False)
        found.append(
            {
                "name": properties.name,
                "memory_gib": round(whole / GIB, 1),
                "memory_free_gib": round(free / GIB, 1),
                "capability": f"{properties.major}.{properties.minor}",
                "precisions": ["32-true", *(["bf16-mixed"] if bfloat else []), "16-mixed"],
            }
        )
    return found


def cuda_build() -> str | None:
    """The CUDA version that PyTorch is built for, or None for a CPU build."""
    return torch.version.cuda
