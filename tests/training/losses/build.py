"""Losses with some settings, by name."""

from trcgl.training.losses import LOSSES


def build_loss(name, positives, rows, **settings):
    """The loss `name`; settings that are not given have their defaults."""
    return LOSSES[name](LOSSES[name].Settings(**settings), positives, rows)
