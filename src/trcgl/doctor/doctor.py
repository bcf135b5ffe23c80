"""`trcgl doctor`: what this machine has, and what is missing for which task.

Decoders are tested by reading a tiny file of each kind with the code of `prepare`, `predict` and `serve`. The report
names no user, host or folder.
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from trcgl.core import machine
from trcgl.core.errors import DataError, UnreadableImage
from trcgl.core.progress import track
from trcgl.core.storage import environment
from trcgl.doctor.sample_files import is_picture, plain_samples, sample
from trcgl.imaging.file_process import SECONDS
from trcgl.imaging.limits import Limits
from trcgl.imaging.radiograph import read_bytes

SCHEMA = "trcgl.doctor/1"
CPU_RECIPES = "phantom, chestmnist, nih_mini, generator_phantom and generator_nih_mini"
ENOUGH_DISK_GIB, ENOUGH_MEMORY_GIB, ENOUGH_OPEN_FILES = 10.0, 4.0, 256

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
"""Common name of a transfer syntax to its keyword in pydicom."""


EXTRAS = {
    "dicom": "DICOM files and DICOM SR",
    "generate": "train-generator, synthesize, audit, study utility",
    "inception": "Inception features of an audit",
    "serve": "serve",
    "dicom-node": "serve --dicom-port, serve --send-to",
    "cluster": "prepare --cluster, predict --cluster",
    "export": "ONNX and the hub",
    "mlflow": "train --train.logger mlflow",
    "wandb": "train --train.logger wandb",
    "dev": "tests and checks of trcgl",
}
"""Extra of the package to the verbs that need it."""


def doctor(folder: Path = Path()) -> dict[str, Any]:
    """Check the machine.

    Args:
        folder: Folder whose disk space is reported; it need not exist yet.

    Returns:
        Versions, CPUs, memory, GPUs, decoders, extras, disk and limits. `checks` has one entry for each, and `advice`
        lists what to do.
    """
    report = {
        "schema": SCHEMA,
        **environment(),
        "cpus": machine.cpus(),
        "memory_gib": machine.memory(),
        **machine.disk(folder),
        "gpus": gpus(),
        "cuda_build": torch.version.cuda,
        "decoders": decoders(),
        "extras": extras(),
        "hub": _hub(),
        "limits": {**asdict(Limits()), "seconds": SECONDS, "open_files": machine.open_files()},
    }
    report["checks"] = [*_machine(report), *_gpu_checks(report), *_files(report), *_packages(report)]
    helps: dict[str, list[str]] = {}  # each piece of advice once, with everything that it helps
    for check in report["checks"]:
        if check["advice"]:
            helps.setdefault(check["advice"], []).append(check["what"])
    report["advice"] = [f"{', '.join(what)}: {advice}" for advice, what in helps.items()]
    return report


def as_text(report: dict[str, Any]) -> str:
    """The report as lines of text; what to do comes last."""
    head = f"trcgl {report['trcgl']}, Python {report['python']}, {report['system']}"
    packages = "packages: " + ", ".join(f"{name} {version}" for name, version in report["packages"].items())
    width = max(len(check["what"]) for check in report["checks"])
    lines = [f"{check['status']:<8} {check['what']:<{width}}  {check['found']}" for check in report["checks"]]
    todo = [f"- {line}" for line in report["advice"]]
    return "\n".join([head, packages, "", *lines, *(["", "to do, if you need it:", *todo] if todo else [])])


def decoders() -> dict[str, bool]:
    """Kind of file to whether a tiny file of that kind is read correctly."""
    dicom = {f"DICOM {name}": lambda keyword=keyword: sample(keyword) for name, keyword in DICOM_SYNTAXES.items()}
    samples = {**plain_samples(), **dicom}
    return {name: _reads(samples[name]) for name in track(samples, what="reading a file of each kind")}


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
                "memory_gib": round(whole / machine.GIB, 1),
                "memory_free_gib": round(free / machine.GIB, 1),
                "capability": f"{properties.major}.{properties.minor}",
                "precisions": ["32-true", *(["bf16-mixed"] if bfloat else []), "16-mixed"],
            }
        )
    return found


def extras() -> dict[str, list[str]]:
    """Extra of the package to its requirements that are not met here."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires("trcgl-net") or []]
    except metadata.PackageNotFoundError:  # run from a folder of sources
        return {}
    return {
        extra: [
            str(needed).partition(";")[0].strip()
            for needed in requirements
            if needed.marker and needed.marker.evaluate({"extra": extra}) and not needed.marker.evaluate({"extra": ""})
            if not _met(needed)
        ]
        for extra in EXTRAS
    }


def _met(requirement: Any) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _reads(make: Callable[[], bytes]) -> bool:
    try:
        return is_picture(read_bytes(make(), "sample").pixels)
    except (ImportError, DataError, UnreadableImage):
        return False


def _check(what: str, found: str, advice: str = "", *, missing: bool = False) -> dict[str, str]:
    """One line of the report; without advice, everything is in order."""
    status = "missing" if missing else "note" if advice else "ok"
    return {"what": what, "status": status, "found": found, "advice": advice}


def _machine(report: dict[str, Any]) -> list[dict[str, str]]:
    memory, free = report["memory_gib"], report["disk_free_gib"]
    checks = [_check("CPUs", f"{report['cpus']} allowed of {os.cpu_count()}")]
    little = memory is not None and memory < ENOUGH_MEMORY_GIB
    advice = f"under {ENOUGH_MEMORY_GIB:g} GiB training may be killed; lower --train.batch-size." if little else ""
    checks.append(_check("memory", "unknown allowed" if memory is None else f"{memory} GiB allowed", advice))
    if not report["disk_writable"]:
        advice = "choose another folder, or allow writing to it."
        return [*checks, _check("disk", "the folder cannot be written to", advice, missing=True)]
    advice = "NIH at 224 pixels takes 5.6 GB, PadChest at 512 takes 41." if free < ENOUGH_DISK_GIB else ""
    return [*checks, _check("disk", f"{free} GiB free", advice)]


def _gpu_checks(report: dict[str, Any]) -> list[dict[str, str]]:
    if not report["gpus"]:
        here = Path("/proc/driver/nvidia").exists()
        if here and not report["cuda_build"]:
            why = "this PyTorch is built for CPUs only: install the CUDA build, see https://pytorch.org/get-started."
        elif here:
            why = "an NVIDIA driver is installed but PyTorch finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES."
        else:
            why = f"the recipes {CPU_RECIPES} run on a CPU; the others need a GPU."
        return [_check("GPU", "none", why, missing=True)]
    checks = []
    for number, gpu in enumerate(report["gpus"]):
        memory = f"{gpu['memory_free_gib']} of {gpu['memory_gib']} GiB free"
        advice = "" if "bf16-mixed" in gpu["precisions"] else "no bfloat16: give --train.precision 16-mixed."
        checks.append(_check(f"GPU {number}", f"{gpu['name']}, {memory}, {', '.join(gpu['precisions'])}", advice))
    return checks


def _files(report: dict[str, Any]) -> list[dict[str, str]]:
    checks = [
        _check(name, "read") if there else _check(name, "cannot be read", _decoder_advice(name), missing=True)
        for name, there in report["decoders"].items()
    ]
    limits = report["limits"]
    size = f"{limits['bytes'] // 2**20} MiB, {limits['pixels'] // 10**6} million pixels, {limits['seconds']:g} s a file"
    few = limits["open_files"] is not None and limits["open_files"] < ENOUGH_OPEN_FILES
    advice = f"many clients of serve need more: ulimit -n {4 * ENOUGH_OPEN_FILES}" if few else ""
    return [*checks, _check("largest file", size), _check("open files", f"{limits['open_files']} allowed", advice)]


def _decoder_advice(name: str) -> str:
    if not name.startswith("DICOM"):
        return "reinstall Pillow."
    return "pip install 'trcgl-net[dicom]'"


def _packages(report: dict[str, Any]) -> list[dict[str, str]]:
    checks = []
    for extra, lacking in report["extras"].items():
        use, advice = f"for: {EXTRAS[extra]}", f"pip install 'trcgl-net[{extra}]'"
        found = f"lacks {', '.join(lacking)} ({use})"
        checks.append(
            _check(f"extra {extra}", found, advice, missing=True) if lacking else _check(f"extra {extra}", use)
        )
    if not report["extras"]:
        checks.append(_check("extras", "trcgl runs from a folder of sources", "make"))
    hub = report["hub"]
    found = "offline" if hub["offline"] else "used only if a recipe or an option names it"
    found += f"; {hub['models']} models in its cache; variables set: {', '.join(hub['set']) or 'none'}"
    advice = "unset HF_HUB_OFFLINE to download models that are not in the cache." if hub["offline"] else ""
    pages = "none needed on this machine: pages are single files for any browser"
    return [*checks, _check("hub", found, advice), _check("browser", pages)]


def _hub() -> dict[str, Any]:
    from huggingface_hub import constants

    names = ("HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE")
    return {
        "offline": bool(constants.HF_HUB_OFFLINE),
        "set": [name for name in names if os.environ.get(name)],
        "models": sum(1 for _ in Path(constants.HF_HUB_CACHE).glob("models--*")),
    }
