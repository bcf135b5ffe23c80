"""The checks of an audit, in the order in which they run and appear on the page."""

from importlib import import_module

from trcgl.audit.check import Check

_NAMES = (
    "label_fidelity",
    "ceiling",
    "fidelity",
    "real_or_synthetic",
    "memorization",
    "diversity",
    "structure",
    "shortcut",
    "context_tokens",
    "guidance",
)

CHECKS: tuple[Check, ...] = tuple(import_module(f"{__name__}.{name}").CHECK for name in _NAMES)
"""Every check. Later checks see the verdict of earlier ones."""
