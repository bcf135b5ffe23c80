"""The ONNX graph of a model, and its comparison with PyTorch."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from trcgl.core import storage
from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.progress import track
from trcgl.core.randomness import generator
from trcgl.model.folder import LoadedModel
from trcgl.model.onnx_model import INPUT, OUTPUTS
from trcgl.model.tensors import to_unit
from trcgl.model.trcgl_net import TrcglNet

OPSET = 18
BATCHES = (1, 3, 8)
"""Sizes of the batches on which ONNX and PyTorch are compared."""
TOLERANCE = 1e-4
"""Largest accepted absolute difference of a logit or of a map's value."""
LARGEST = 2**31
"""Size of the weights in bytes from which one ONNX file cannot hold them, a limit of the format."""


class Graph(nn.Module):
    """The exported graph. It takes images as `LoadedModel.logits` does, so that no caller can scale them wrongly."""

    def __init__(self, network: TrcglNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: UInt8[Tensor, "batch height width"]) -> tuple[Tensor, ...]:
        """Logits (B, C), and maps (B, C, h, w) where the head has them."""
        output = self.network(to_unit(images))
        return (output.logits,) if output.maps is None else (output.logits, output.maps)


def require_onnx() -> None:
    """Check that the packages for ONNX are installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RecipeError(
            f"the ONNX file needs {error.name}, which is not installed. Run: pip install 'trcgl-net[export]'; or leave "
            "out the ONNX file with --no-onnx."
        ) from error


def write_onnx(model: LoadedModel, path: Path) -> dict[str, Any]:
    """Write the graph of a model on the CPU, with a batch of any size, and compare it with PyTorch.

    Returns:
        File name, digest, opset, names and shapes of input and outputs, and the comparison.

    Raises:
        CheckpointError: ONNX lacks an operation of the network, the network is too large for one file, or the graph
            differs from PyTorch by more than `TOLERANCE`.
    """
    if (size := sum(tensor.nbytes for tensor in model.network.state_dict().values())) >= LARGEST:
        raise CheckpointError(f"{size} bytes of weights are too many for one ONNX file. Leave it out with --no-onnx.")
    graph, side = Graph(model.network).eval(), model.image_size
    example = torch.zeros((2, side, side), dtype=torch.uint8)
    with torch.inference_mode():
        outputs = dict(zip(OUTPUTS, graph(example), strict=False))
    _export(graph, example, list(outputs), path, model)
    return {
        "file": path.name,
        "sha256": storage.sha256_file(path),
        "opset": OPSET,
        "input": {"name": INPUT, "type": "uint8", "shape": ["batch", side, side]},
        "outputs": {name: ["batch", *output.shape[1:]] for name, output in outputs.items()},
        "parity": compare(graph, path, side),
    }


def compare(graph: nn.Module, path: Path, side: int) -> dict[str, Any]:
    """Compare an ONNX file with the network that it was exported from, on square images.

    Args:
        graph: module with the same outputs as the file, in the same order.
        path: the ONNX file.
        side: side of the images, in pixels.

    Returns:
        Batch sizes, tolerance, and the largest absolute difference of every output.

    Raises:
        CheckpointError: a difference is larger than `TOLERANCE`, or not a number.
    """
    import onnxruntime

    # By content, because ONNX Runtime refuses paths that are not UTF-8.
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    largest = dict.fromkeys(names, 0.0)
    for batch in track(BATCHES, what="comparing ONNX with PyTorch"):
        images = _images(batch, side)
        with torch.inference_mode():
            expected = graph(torch.from_numpy(images))
        for name, ours, theirs in zip(names, expected, session.run(names, {INPUT: images}), strict=True):
            difference = float(np.abs(ours.numpy() - theirs).max()) if ours.shape == theirs.shape else float("inf")
            if not difference <= TOLERANCE:  # NaN fails too
                raise CheckpointError(
                    f"the ONNX graph is not the model: at batch {batch} its {name} differ from PyTorch's by "
                    f"{difference:.1e}, more than {TOLERANCE:.0e}. It was given up. Leave the ONNX file out with "
                    "--no-onnx, and report the backbone and the head."
                )
            largest[name] = max(largest[name], difference)
    return {"batches": list(BATCHES), "tolerance": TOLERANCE, "largest_difference": largest}


def _export(graph: Graph, example: Tensor, outputs: list[str], path: Path, model: LoadedModel) -> None:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    batch = torch.export.Dim("batch")
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                (example,),
                input_names=[INPUT],
                output_names=outputs,
                dynamic_shapes=({0: batch},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        recipe = model.info["recipe"]["model"]
        raise CheckpointError(
            f"the network of backbone {recipe['backbone']} and head {recipe['head']} cannot be written as ONNX "
            f"({_cause(error)}). Leave the ONNX file out with --no-onnx."
        ) from error
    if program is None:
        raise CheckpointError("PyTorch returned no ONNX graph. Leave the ONNX file out with --no-onnx.")
    # The exporter notes at every node where its code lies on this machine.
    ClearMetadataAndDocStringPass()(program.model)
    notes = {"weights_sha256": model.info["weights_sha256"], "research_use": model.info["research_use"]}
    program.model.metadata_props.update(notes)
    program.save(path, external_data=False)


def _images(count: int, side: int) -> UInt8[np.ndarray, "count side side"]:
    """Test images of random blocks with noise; differences would not show on flat images or on noise alone."""
    rng = generator(0, "parity", count)
    coarse = rng.integers(0, 192, (count, 8, 8), dtype=np.uint8)
    spread = coarse.repeat(-(-side // 8), 1).repeat(-(-side // 8), 2)[:, :side, :side]
    return spread + rng.integers(0, 64, (count, side, side), dtype=np.uint8)


def _cause(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return (str(cause).strip() or repr(cause)).splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's log; the comparison shows whether the graph is right."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
