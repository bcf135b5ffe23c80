"""Metrics of plain arrays, with 95 % intervals over patients; needs neither torch nor a dataset."""

from trcgl.metrics.summary import evaluate as evaluate

__all__ = ["evaluate"]
