"""Heads: a feature map in, one logit per finding out. Every head has one signature; `HEADS` is the registry."""

from trcgl.model.heads.chexgcn import ChexGcnHead
from trcgl.model.heads.clarity import ClarityHead
from trcgl.model.heads.contract import Head, HeadOutput
from trcgl.model.heads.csra import CsraHead
from trcgl.model.heads.dualattnet import DualAttNetHead
from trcgl.model.heads.experts import ExpertsHead
from trcgl.model.heads.linear import LinearHead
from trcgl.model.heads.ml_decoder import MlDecoderHead
from trcgl.model.heads.ml_gcn import MlGcnHead
from trcgl.model.heads.query2label import Query2LabelHead
from trcgl.model.heads.trcgl import TrcglHead

__all__ = ["HEADS", "Head", "HeadOutput"]

HEADS: dict[str, type[Head]] = {
    "linear": LinearHead,
    "trcgl": TrcglHead,
    "csra": CsraHead,
    "ml_decoder": MlDecoderHead,
    "ml_gcn": MlGcnHead,
    "query2label": Query2LabelHead,
    "chexgcn": ChexGcnHead,
    "dualattnet": DualAttNetHead,
    "clarity": ClarityHead,
    "experts": ExpertsHead,
}
"""Name in a recipe (`--model.head`) to class."""
