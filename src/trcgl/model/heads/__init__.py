"""Heads: map a feature map (B, D, h, w) to one logit per finding. `HEADS` is the registry."""

from trcgl.core.registry import Registry
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

__all__ = ["HEADS", "Head", "HeadOutput", "register_head"]

HEADS: Registry[Head] = Registry(
    Head,
    "model.head",
    "trcgl.heads",
    {
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
    },
)
"""Name in a recipe (`--model.head`) to class."""


def register_head(name: str, cls: type[Head]) -> None:
    """Make a head available by name, as `model.head` of a recipe and in `create_model`.

        class MaxHead(Head): ...      # see `Head`

        register_head("max", MaxHead)

    An installed package registers its heads through entry points of the group `trcgl.heads` instead.

    Args:
        name: any name but that of a built-in head.
        cls: subclass of `Head`.

    Raises:
        RecipeError: the name is that of a built-in head, or `cls` is no subclass of `Head`.
    """
    HEADS.register(name, cls)
