"""All metrics, found in the modules of this package and sorted by their `order`: a new metric is one file."""

import pkgutil
from importlib import import_module
from pathlib import Path

from trcgl.metrics.metric import Metric

_USERS = {"registry", "summary", "localization"}
"""Modules that need the registry, directly or not; they define no metric of it."""


def _discovered() -> list[Metric]:
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.name not in _USERS]
    modules = [import_module(f"{__package__}.{name}") for name in names]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, Metric)}
    return sorted(found, key=lambda metric: (metric.order, metric.name))


METRICS: dict[str, Metric] = {metric.name: metric for metric in _discovered()}
"""Name to metric, in the order of the tables."""
RANKING: tuple[Metric, ...] = tuple(metric for metric in METRICS.values() if metric.ranking)
"""The metrics that depend only on the order of the scores."""
