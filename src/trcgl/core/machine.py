"""CPUs, memory, disk and open files that this process may use."""

import os
import shutil
from pathlib import Path
from typing import Any

GIB = 2**30


def cpus() -> int:
    """CPUs that this process may use: its affinity, or its control group's quota where that is lower."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _control_group("cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal():
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def memory() -> float | None:
    """GiB of this machine, or of its control group where that is less."""
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
    limit = _control_group("memory.max")
    return round(min(whole, int(limit) if limit.isdecimal() else whole) / GIB, 1)


def _control_group(name: str) -> str:
    try:
        return Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def disk(folder: Path) -> dict[str, Any]:
    """Free space and write access of a folder, or of its nearest existing parent."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return {
        "disk_free_gib": round(shutil.disk_usage(there).free / GIB, 1),
        "disk_writable": there.is_dir() and os.access(there, os.W_OK),
    }


def open_files() -> int | None:
    """Maximum number of open files, or None where the system does not say."""
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
