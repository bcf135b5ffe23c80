"""Train, judge and serve classifiers for long-tailed multi-label chest radiographs.

    from trcgl import load_model

    model = load_model("RUN")             # a run folder, a model folder, or OWNER/NAME on the Hugging Face hub
    model.predict("scan.dcm").scores      # finding to probability

Implements TRCGL-Net (arXiv 2607.00975). Research use only: not a medical device.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trcgl.model.load import load_model

__version__ = "0.1.0"
__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    # Torch is imported only when a model is loaded: `trcgl --help` has no time for it.
    if name == "load_model":
        return import_module("trcgl.model.load").load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
