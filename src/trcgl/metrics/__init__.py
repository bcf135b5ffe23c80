"""Metrics with patient intervals on plain arrays; needs neither torch nor a dataset."""

from trcgl.metrics.summary import evaluate as evaluate

__all__ = ["evaluate"]
