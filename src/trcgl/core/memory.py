"""Memory settings of the C library."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> None:
    """Make glibc keep memory freed by a network on the CPU instead of returning it to the system after every layer.

    Fetching the same pages again took up to a quarter of the time of a denoising step (6.3 M parameters, batch 16, a
    single core). Other C libraries have no `mallopt`, or ignore it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(_MMAP_THRESHOLD, 2**30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
