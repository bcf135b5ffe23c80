"""A model that computes logits with ONNX Runtime, in about two thirds of the time of PyTorch on a CPU."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trcgl.core import storage
from trcgl.core.errors import CheckpointError
from trcgl.model.folder import Images, LoadedModel, Scores, Square

INPUT = "images"
OUTPUTS = ("logits", "maps")
"""Names of the input and the outputs of an exported graph."""


@dataclass(frozen=True)
class OnnxModel(LoadedModel):
    """A model that scores with `model.onnx`, which its export has compared with PyTorch; `network` computes maps.

    Several threads may call `session`, an `onnxruntime.InferenceSession` with `threads` threads per call.
    """

    session: Any
    threads: int

    def logits(self, images: Images, *, batch_size: int = 64) -> Scores:
        """As in `LoadedModel`; with two images per thread, whose activations fit into the cache of a core."""
        return super().logits(images, batch_size=min(batch_size, 2 * self.threads))

    def _forward(self, images: Square) -> Scores:
        return self.session.run(OUTPUTS[:1], {INPUT: images})[0]


def over_onnx(model: LoadedModel, folder: Path, threads: int) -> LoadedModel:
    """Replace the engine of a model by ONNX Runtime, if its folder has a graph and ONNX Runtime is installed.

    Raises:
        CheckpointError: `model.onnx` is not the file that `model.json` describes.
    """
    graph = model.info.get("onnx")
    if graph is None or not (path := folder / graph["file"]).is_file():  # not downloaded from the hub
        return model
    try:
        import onnxruntime
    except ImportError:
        return model
    if storage.sha256_file(path) != graph["sha256"]:
        raise CheckpointError(f"{path} is not the file that model.json describes. Copy the folder again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads would take CPU time from the decoding processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    values = {field.name: getattr(model, field.name) for field in fields(LoadedModel)}
    return OnnxModel(**values, session=session, threads=threads)
