"""The checks of an audit, found in the modules of this package and sorted by their `order`: a new check is one file."""

import pkgutil
from importlib import import_module

from trcgl.audit.check import Check

_MODULES = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]

CHECKS: tuple[Check, ...] = tuple(sorted((module.CHECK for module in _MODULES), key=lambda check: check.order))
"""Every check, in the order in which they run and appear on the page. Later checks see the verdict of earlier ones."""
