"""Train, evaluate and serve classifiers for long-tailed multi-label chest radiographs.

    import trcgl

    model = trcgl.load_model("RUN")       # a run folder, a model folder, or OWNER/NAME on the Hugging Face hub
    model.predict("scan.dcm").scores      # finding to probability

Implements TRCGL-Net (arXiv 2607.00975). Research use only: not a medical device.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trcgl import metrics
    from trcgl.api import create_loss, create_model, create_recipe, prepare, train
    from trcgl.core.loss_settings import LossSettings
    from trcgl.dataset.store import open_dataset
    from trcgl.evaluate.evaluate import evaluate_run
    from trcgl.model.folder import load_model
    from trcgl.model.heads import Head, HeadOutput, register_head
    from trcgl.training.losses import Loss, register_loss
    from trcgl.training.torch_dataset import TorchDataset

__version__ = "0.2.0"
__all__ = [
    "Head",
    "HeadOutput",
    "Loss",
    "LossSettings",
    "TorchDataset",
    "__version__",
    "create_loss",
    "create_model",
    "create_recipe",
    "evaluate_run",
    "load_model",
    "metrics",
    "open_dataset",
    "prepare",
    "register_head",
    "register_loss",
    "train",
]

_MODULES = {
    "trcgl.api": ("create_loss", "create_model", "create_recipe", "prepare", "train"),
    "trcgl.core.loss_settings": ("LossSettings",),
    "trcgl.dataset.store": ("open_dataset",),
    "trcgl.evaluate.evaluate": ("evaluate_run",),
    "trcgl.model.heads": ("Head", "HeadOutput", "register_head"),
    "trcgl.model.folder": ("load_model",),
    "trcgl.training.losses": ("Loss", "register_loss"),
    "trcgl.training.torch_dataset": ("TorchDataset",),
}


def __getattr__(name: str) -> Any:
    # Modules are imported on first use: `trcgl --help` must not wait for torch.
    if name == "metrics":
        return import_module("trcgl.metrics")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
