"""A model whose logits ONNX Runtime computes, which on a CPU takes about two thirds of PyTorch's time."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from trcgl.core import storage
from trcgl.core.errors import CheckpointError
from trcgl.model.folder import LoadedModel

INPUT = "images"
OUTPUTS = ("logits", "maps")
"""Names of the inputs and outputs of an exported graph."""


@dataclass(frozen=True)
class OnnxModel(LoadedModel):
    """A model that scores through `model.onnx`, whose parity its export has checked; `network` is there for maps.

    Args:
        session: of ONNX Runtime; several threads may call it.
        threads: that each call takes.
    """

    session: Any
    threads: int

    def logits(
        self, images: UInt8[np.ndarray, "batch height width"], *, batch_size: int = 64
    ) -> Float[np.ndarray, "batch findings"]:
        """As in `LoadedModel`; two images a thread at once, for what a layer writes of them stays in a core's cache."""
        return super().logits(images, batch_size=min(batch_size, 2 * self.threads))

    def _forward(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings"]:
        return self.session.run(OUTPUTS[:1], {INPUT: images})[0]


def over_onnx(model: LoadedModel, folder: Path, threads: int) -> LoadedModel:
    """The model over its folder's ONNX graph; the model itself where there is none, or no ONNX Runtime.

    Args:
        model: loaded from the folder, on the CPU.
        folder: a model folder.
        threads: of one call.

    Raises:
        CheckpointError: `model.onnx` is not the file that `model.json` describes.
    """
    told = model.info.get("onnx")
    if told is None or not (path := Path(folder) / told["file"]).is_file():  # a pull from the hub leaves it there
        return model
    try:
        import onnxruntime
    except ImportError:
        return model
    if storage.sha256_file(path) != told["sha256"]:
        raise CheckpointError(f"{path} is not the file that model.json describes. Copy the folder again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait for work in a loop take the CPU from the processes that decode files.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return OnnxModel(
        **{one.name: getattr(model, one.name) for one in fields(LoadedModel)}, session=session, threads=threads
    )
