"""Heads: a feature map in, one logit per finding out. Every head has one signature; `HEADS` is the registry."""

from trcgl.model.heads.contract import Head, HeadOutput
from trcgl.model.heads.linear import LinearHead
from trcgl.model.heads.trcgl import TrcglHead

__all__ = ["HEADS", "Head", "HeadOutput"]

HEADS: dict[str, type[Head]] = {
    "linear": LinearHead,
    "trcgl": TrcglHead,
}
"""Name in a recipe (`--model.head`) to class."""
