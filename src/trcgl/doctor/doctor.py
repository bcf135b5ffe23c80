"""`trcgl doctor`: what this machine has, and what is missing for which work.

Kinds of files are not looked up in a list of decoders: a tiny file of each is read as `prepare`, `predict` and `serve`
read files. Nothing that is told names a user, a host or a folder.
"""

import os
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from trcgl.core import machine
from trcgl.core.progress import track
from trcgl.core.storage import environment
from trcgl.doctor.gpus import cuda_build, gpus
from trcgl.imaging.file_process import SECONDS
from trcgl.imaging.limits import Limits

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
"""Name that a radiology department uses to the transfer syntax's keyword in pydicom."""

UNREAD = "DICOM JPEG 12-bit"
"""Pydicom lets none but a GPL decoder read it, which the extra leaves out."""

EXTRAS = {
    "dicom": "DICOM files and DICOM SR",
    "generate": "train-generator, synthesize, audit, study utility",
    "inception": "Inception features of an audit",
    "serve": "serve",
    "export": "ONNX and the hub",
    "dev": "tests and checks of trcgl itself",
}
"""Extra of the package to what needs it."""


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Args:
        what: the thing.
        status: `ok`, `missing`, or `note` where nothing is wrong and something is worth knowing.
        found: what is there.
        advice: what to do; empty where nothing is.
    """

    what: str
    status: Literal["ok", "missing", "note"]
    found: str
    advice: str = ""


def doctor(folder: Path = Path()) -> dict[str, Any]:
    """Look at the machine.

    Args:
        folder: the free space of its disk is reported; it need not exist yet.

    Returns:
        Versions, CPUs, memory, GPUs, decoders, extras, disk and limits. `checks` says of each whether it is there, and
        `advice` is what there is to do.
    """
    told = {
        "schema": SCHEMA,
        **environment(),
        "cpus": machine.cpus(),
        "memory_gib": machine.memory(),
        **machine.disk(folder),
    }
    told |= {
        "gpus": gpus(),
        "cuda_build": cuda_build(),
        "decoders": decoders(),
        "extras": extras(),
        "hub": _hub(),
    }
    told["limits"] = {**asdict(Limits()), "seconds": SECONDS, "open_files": machine.open_files()}
    checks = [*_machine(told), *_files(told), *_packages(told)]
    told["checks"] = [asdict(one) for one in checks]
    told["advice"] = _advice(checks)
    return told


def in_words(told: dict[str, Any]) -> str:
    """The report as lines of text, and what there is to do at their end."""
    head = f"trcgl {told['trcgl']}, Python {told['python']}, {told['system']}"
    packages = "packages: " + ", ".join(f"{name} {version}" for name, version in told["packages"].items())
    width = max(len(one["what"]) for one in told["checks"])
    lines = [f"{one['status']:<8} {one['what']:<{width}}  {one['found']}" for one in told["checks"]]
    todo = [f"- {line}" for line in told["advice"]]
    return "\n".join([head, packages, "", *lines, *(["", "to do, where you need it:", *todo] if todo else [])])


def decoders() -> dict[str, bool]:
    """Whether a tiny file of each kind is read right."""
    from trcgl.doctor.sample_files import plain_samples, sample

    dicom = {f"DICOM {name}": lambda keyword=keyword: sample(keyword) for name, keyword in DICOM_SYNTAXES.items()}
    samples = {**plain_samples(), **dicom}
    return {name: _reads(samples[name]) for name in track(samples, what="reading a file of each kind")}


def extras() -> dict[str, list[str]]:
    """Extra of the package to its requirements that are not met here; empty where all are."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(one) for one in metadata.requires("trcgl-net") or []]
    except metadata.PackageNotFoundError:  # run from a folder of sources
        return {}
    return {
        extra: [
            str(one).partition(";")[0].strip()
            for one in requirements
            if one.marker and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})
            if not _met(one)
        ]
        for extra in EXTRAS
    }


def _advice(checks: list[Check]) -> list[str]:
    """What there is to do, once for all that it helps."""
    helps: dict[str, list[str]] = {}
    for one in checks:
        if one.advice:
            helps.setdefault(one.advice, []).append(one.what)
    return [f"{', '.join(what)}: {advice}" for advice, what in helps.items()]


def _met(requirement: Any) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _reads(make: Any) -> bool:
    from trcgl.core.errors import DataError, UnreadableImage
    from trcgl.doctor.sample_files import is_picture
    from trcgl.imaging.radiograph import read_bytes

    try:
        return is_picture(read_bytes(make(), "sample").pixels)
    except (ImportError, DataError, UnreadableImage):
        return False


def _machine(told: dict[str, Any]) -> list[Check]:
    installed, cpus, memory, free = os.cpu_count(), told["cpus"], told["memory_gib"], told["disk_free_gib"]
    checks = [Check("CPUs", "ok", f"{cpus} allowed of {installed}")]
    little = memory is not None and memory < ENOUGH_MEMORY_GIB
    advice = f"under {ENOUGH_MEMORY_GIB:g} GiB training may be killed; lower --train.batch-size." if little else ""
    checks.append(Check("memory", "note" if little else "ok", _gib(memory) + " allowed", advice))
    if not told["disk_writable"]:
        advice = "give another folder, or the right to write there."
        checks.append(Check("disk", "missing", "the folder cannot be written to", advice))
    else:
        advice = "NIH at 224 pixels takes 5.6 GB, PadChest at 512 takes 41." if free < ENOUGH_DISK_GIB else ""
        checks.append(Check("disk", "note" if advice else "ok", f"{_gib(free)} free", advice))
    return [*checks, *_gpu_checks(told)]


def _gpu_checks(told: dict[str, Any]) -> list[Check]:
    if not told["gpus"]:
        here = Path("/proc/driver/nvidia").exists()
        if here and not told["cuda_build"]:
            why = "this PyTorch is built for CPUs alone: install the CUDA build, see https://pytorch.org/get-started."
        elif here:
            why = "a driver is here and PyTorch finds no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES."
        else:
            why = f"the recipes {CPU_RECIPES} are made for a CPU; the others want a GPU."
        return [Check("GPU", "missing", "none", why)]
    checks = []
    for number, one in enumerate(told["gpus"]):
        found = (
            f"{one['name']}, {one['memory_free_gib']} of {one['memory_gib']} GiB free, {', '.join(one['precisions'])}"
        )
        advice = "" if "bf16-mixed" in one["precisions"] else "no bfloat16: give --train.precision 16-mixed."
        checks.append(Check(f"GPU {number}", "note" if advice else "ok", found, advice))
    return checks


def _files(told: dict[str, Any]) -> list[Check]:
    checks = [
        Check(name, "ok", "read") if there else Check(name, "missing", "cannot be read", _decoder_advice(name))
        for name, there in told["decoders"].items()
    ]
    limits = told["limits"]
    found = (
        f"{limits['bytes'] // 2**20} MiB, {limits['pixels'] // 10**6} million pixels, {limits['seconds']:g} s a file"
    )
    checks.append(Check("largest file", "ok", found))
    few = limits["open_files"] is not None and limits["open_files"] < ENOUGH_OPEN_FILES
    advice = f"many clients of serve need more: ulimit -n {4 * ENOUGH_OPEN_FILES}" if few else ""
    checks.append(Check("open files", "note" if few else "ok", f"{limits['open_files']} allowed", advice))
    return checks


def _decoder_advice(name: str) -> str:
    if not name.startswith("DICOM"):
        return "install Pillow anew."
    if name == UNREAD and find_spec("pydicom"):
        return "no decoder of the extra dicom reads it: convert such files first, for instance with DCMTK's dcmdjpeg."
    return "pip install 'trcgl-net[dicom]'"


def _packages(told: dict[str, Any]) -> list[Check]:
    checks = []
    for extra, lacking in told["extras"].items():
        use = EXTRAS[extra]
        if lacking:
            found = f"lacks {', '.join(lacking)} (for: {use})"
            checks.append(Check(f"extra {extra}", "missing", found, f"pip install 'trcgl-net[{extra}]'"))
        else:
            checks.append(Check(f"extra {extra}", "ok", f"for: {use}"))
    if not told["extras"]:
        checks.append(Check("extras", "note", "trcgl runs from a folder of sources", "make"))
    hub = told["hub"]
    found = "offline" if hub["offline"] else "asked when a recipe or you name it"
    advice = "unset HF_HUB_OFFLINE to fetch what is not in the cache." if hub["offline"] else ""
    own = ", ".join(hub["set"]) or "none"
    found += f"; {hub['models']} models in its cache; variables set: {own}"
    checks.append(Check("hub", "note" if hub["offline"] else "ok", found, advice))
    checks.append(Check("browser", "ok", "none needed here: pages are single files for any browser"))
    return checks


def _hub() -> dict[str, Any]:
    from huggingface_hub import constants

    names = ("HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE")
    return {
        "offline": bool(constants.HF_HUB_OFFLINE),
        "set": [name for name in names if os.environ.get(name)],
        "models": sum(1 for _ in Path(constants.HF_HUB_CACHE).glob("models--*")),
    }


def _gib(value: float | None) -> str:
    return "unknown" if value is None else f"{value} GiB"
