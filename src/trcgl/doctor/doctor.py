"""`trcgl doctor`: what this machine has, and what is missing for which task.

Decoders are tested by reading a tiny file of each kind with the code of `prepare`, `predict` and `serve`. The report
names no user, host or folder.
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
"""Common name of a transfer syntax to its keyword in pydicom."""

UNREAD = "DICOM JPEG 12-bit"
"""The one kind that no decoder of the extra reads; pydicom's only decoder for it is under the GPL."""

EXTRAS = {
    "dicom": "DICOM files and DICOM SR",
    "generate": "train-generator, synthesize, audit, study utility",
    "inception": "Inception features of an audit",
    "serve": "serve",
    "export": "ONNX and the hub",
    "dev": "tests and checks of trcgl",
}
"""Extra of the package to the verbs that need it."""


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Args:
        what: What was checked.
        status: `ok`, `missing`, or `note` if something is worth knowing.
        found: What was found.
        advice: What to do; empty if nothing is to be done.
    """

    what: str
    status: Literal["ok", "missing", "note"]
    found: str
    advice: str = ""


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
    }
    report |= {
        "gpus": gpus(),
        "cuda_build": cuda_build(),
        "decoders": decoders(),
        "extras": extras(),
        "hub": _hub(),
    }
    report["limits"] = {**asdict(Limits()), "seconds": SECONDS, "open_files": machine.open_files()}
    checks = [*_machine(report), *_files(report), *_packages(report)]
    report["checks"] = [asdict(check) for check in checks]
    report["advice"] = _advice(checks)
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
    from trcgl.doctor.sample_files import plain_samples, sample

    dicom = {f"DICOM {name}": lambda keyword=keyword: sample(keyword) for name, keyword in DICOM_SYNTAXES.items()}
    samples = {**plain_samples(), **dicom}
    return {name: _reads(samples[name]) for name in track(samples, what="reading a file of each kind")}


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


def _advice(checks: list[Check]) -> list[str]:
    """Each piece of advice once, with everything that it helps."""
    helps: dict[str, list[str]] = {}
    for check in checks:
        if check.advice:
            helps.setdefault(check.advice, []).append(check.what)
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


def _machine(report: dict[str, Any]) -> list[Check]:
    installed, cpus, memory, free = os.cpu_count(), report["cpus"], report["memory_gib"], report["disk_free_gib"]
    checks = [Check("CPUs", "ok", f"{cpus} allowed of {installed}")]
    little = memory is not None and memory < ENOUGH_MEMORY_GIB
    advice = f"under {ENOUGH_MEMORY_GIB:g} GiB training may be killed; lower --train.batch-size." if little else ""
    checks.append(Check("memory", "note" if little else "ok", _gib(memory) + " allowed", advice))
    if not report["disk_writable"]:
        advice = "choose another folder, or allow writing to it."
        checks.append(Check("disk", "missing", "the folder cannot be written to", advice))
    else:
        advice = "NIH at 224 pixels takes 5.6 GB, PadChest at 512 takes 41." if free < ENOUGH_DISK_GIB else ""
        checks.append(Check("disk", "note" if advice else "ok", f"{_gib(free)} free", advice))
    return [*checks, *_gpu_checks(report)]


def _gpu_checks(report: dict[str, Any]) -> list[Check]:
    if not report["gpus"]:
        here = Path("/proc/driver/nvidia").exists()
        if here and not report["cuda_build"]:
            why = "this PyTorch is built for CPUs only: install the CUDA build, see https://pytorch.org/get-started."
        elif here:
            why = "an NVIDIA driver is installed but PyTorch finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES."
        else:
            why = f"the recipes {CPU_RECIPES} run on a CPU; the others need a GPU."
        return [Check("GPU", "missing", "none", why)]
    checks = []
    for number, gpu in enumerate(report["gpus"]):
        found = (
            f"{gpu['name']}, {gpu['memory_free_gib']} of {gpu['memory_gib']} GiB free, {', '.join(gpu['precisions'])}"
        )
        advice = "" if "bf16-mixed" in gpu["precisions"] else "no bfloat16: give --train.precision 16-mixed."
        checks.append(Check(f"GPU {number}", "note" if advice else "ok", found, advice))
    return checks


def _files(report: dict[str, Any]) -> list[Check]:
    checks = [
        Check(name, "ok", "read") if there else Check(name, "missing", "cannot be read", _decoder_advice(name))
        for name, there in report["decoders"].items()
    ]
    limits = report["limits"]
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
        return "reinstall Pillow."
    if name == UNREAD and find_spec("pydicom"):
        return "the extra dicom has no decoder for it: convert such files first, for instance with DCMTK's dcmdjpeg."
    return "pip install 'trcgl-net[dicom]'"


def _packages(report: dict[str, Any]) -> list[Check]:
    checks = []
    for extra, lacking in report["extras"].items():
        use = EXTRAS[extra]
        if lacking:
            found = f"lacks {', '.join(lacking)} (for: {use})"
            checks.append(Check(f"extra {extra}", "missing", found, f"pip install 'trcgl-net[{extra}]'"))
        else:
            checks.append(Check(f"extra {extra}", "ok", f"for: {use}"))
    if not report["extras"]:
        checks.append(Check("extras", "note", "trcgl runs from a folder of sources", "make"))
    hub = report["hub"]
    found = "offline" if hub["offline"] else "used only if a recipe or an option names it"
    advice = "unset HF_HUB_OFFLINE to download models that are not in the cache." if hub["offline"] else ""
    own = ", ".join(hub["set"]) or "none"
    found += f"; {hub['models']} models in its cache; variables set: {own}"
    checks.append(Check("hub", "note" if hub["offline"] else "ok", found, advice))
    checks.append(Check("browser", "ok", "none needed on this machine: pages are single files for any browser"))
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
