"""`trcgl doctor`: what this machine has, and what is missing for which work."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from trcgl.core.run import environment

SCHEMA = "trcgl.doctor/1"
GIB = 2**30

DICOM_SYNTAXES = {
    "uncompressed": "ExplicitVRLittleEndian",
    "RLE": "RLELossless",
    "JPEG 8-bit": "JPEGBaseline8Bit",
    "JPEG 12-bit": "JPEGExtended12Bit",
    "JPEG lossless": "JPEGLosslessSV1",
    "JPEG-LS": "JPEGLSLossless",
    "JPEG 2000": "JPEG2000Lossless",
    "HTJ2K": "HTJ2KLossless",
}
"""Name that a radiology department uses to the transfer syntax's keyword in pydicom."""


def doctor(folder: Path = Path()) -> dict[str, Any]:
    """Look at the machine.

    Args:
        folder: the free space of its disk is reported.

    Returns:
        Versions, CPUs, memory, GPUs, DICOM decoders and disk; `advice` says what is missing and how to get it.
    """
    decoders = dicom_decoders()
    gpus = _gpus()
    return {
        "schema": SCHEMA,
        **environment(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory(),
        "disk_free_gib": round(shutil.disk_usage(folder).free / GIB, 1),
        "gpus": gpus,
        "decoders": {"PNG": True, "JPEG": True} | {f"DICOM {name}": there for name, there in decoders.items()},
        "advice": _advice(decoders, gpus),
    }


def dicom_decoders() -> dict[str, bool]:
    """Whether files of each transfer syntax of `DICOM_SYNTAXES` can be decoded."""
    if importlib.util.find_spec("pydicom") is None:
        return dict.fromkeys(DICOM_SYNTAXES, False)
    from pydicom import uid
    from pydicom.pixels import get_decoder

    return {name: get_decoder(getattr(uid, keyword)).is_available for name, keyword in DICOM_SYNTAXES.items()}


def _gpus() -> list[dict[str, Any]]:
    import torch

    properties = [torch.cuda.get_device_properties(one) for one in range(torch.cuda.device_count())]
    return [{"name": one.name, "memory_gib": round(one.total_memory / GIB, 1)} for one in properties]


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _advice(decoders: dict[str, bool], gpus: list[dict[str, Any]]) -> list[str]:
    advice = []
    if missing := [name for name, there in decoders.items() if not there]:
        advice.append(
            f"DICOM files of these kinds cannot be read: {', '.join(missing)}. Run: pip install 'trcgl-net[dicom]'"
        )
    if not gpus:
        advice.append("no GPU: the recipes phantom, chestmnist and nih_mini are made for a CPU; the others need a GPU.")
    return advice
