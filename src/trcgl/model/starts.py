"""Initial weights of a backbone from a file or folder: its tensors, and what is known about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trcgl.core import storage
from trcgl.core.errors import CheckpointError
from trcgl.core.folder_kind import ENSEMBLE, MODEL, RUN, kind_of
from trcgl.model import hugging_face
from trcgl.model.fitting import fit
from trcgl.model.weights_file import read_weights

UNKNOWN = "unknown"
XRAYVISION_FINDINGS = 18
"""Outputs of the models of torchxrayvision."""
_STEMS = ("features.conv0.weight", "conv1.weight")  # of torchvision's DenseNet and ResNet


@dataclass(frozen=True)
class Start:
    """Initial weights as found.

    Args:
        path: the weights file.
        name: name of the file, or of the folder of a model.
        kind: `run` (a run or an exported model of this project), `hugging_face`, `torchxrayvision` or `file`.
        tensors: every tensor of the file, by name.
        backbones: timm models with this architecture; empty where the file does not say.
        normalization: mean and standard deviation per channel of gray values in [0, 1] that the weights expect; None
            where the file does not say.
        license: license of the weights, `unknown` where it is not stated.
        info: `model.json` of a model of this project, else empty.
    """

    path: Path
    name: str
    kind: str
    tensors: Mapping[str, Tensor]
    backbones: tuple[str, ...] = ()
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    license: str = UNKNOWN
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """What became of a start.

    Args:
        start: the initial weights, without their tensors.
        changes: what was resampled, divided or left out, as phrases.
    """

    start: Start
    changes: tuple[str, ...]

    def sentence(self) -> str:
        """One line for the user."""
        changes = f": {'; '.join(self.changes)}" if self.changes else ""
        return f"the backbone starts from {self.start.path}{changes}"

    def record(self) -> dict[str, Any]:
        """What a run and its model record of the start."""
        start = self.start
        return {
            "name": start.name,
            "sha256": start.info.get("weights_sha256") or storage.sha256_file(start.path),
            "kind": start.kind,
            "license": start.license,
            "changes": list(self.changes),
            **(
                {
                    "source": start.info.get("source"),
                    "training_patient_digest": start.info.get("training_patient_digest"),
                    "start": start.info.get("start"),
                }
                if start.info
                else {}
            ),
        }


def open_start(weights: Path) -> Start:
    """Read initial weights.

    Args:
        weights: a weights file, or a folder: a run, an exported model, or a Hugging Face model.

    Raises:
        CheckpointError: there are no weights, or they cannot be read without running code.
    """
    if not weights.is_dir():
        return _of_file(weights)
    if kind_of(weights) in (RUN, MODEL) or kind_of(weights / "model") is MODEL:
        return _of_run(weights)
    if hugging_face.is_hugging_face(weights):
        path = hugging_face.weights_of(weights)
        return Start(
            path,
            weights.resolve().name,
            "hugging_face",
            read_weights(path),
            hugging_face.timm_names(weights),
            hugging_face.normalization(weights),
            hugging_face.license_in(weights) or UNKNOWN,
        )
    if kind_of(weights) is ENSEMBLE:
        raise CheckpointError(
            f"{weights} is an ensemble of several networks. Start from one of its runs, or from the folder members/1 "
            "of an exported ensemble."
        )
    raise CheckpointError(
        f"{weights} is no start: it has no run.json or model.json of trcgl and no config.json of a Hugging Face model. "
        "Give a weights file, or one of these folders."
    )


def load(body: nn.Module, start: Start, backbone: str) -> Loaded:
    """Load a start into a timm model without pooling and classifier.

    Args:
        body: the timm model.
        start: the initial weights.
        backbone: name of the timm model in the recipe.

    Raises:
        CheckpointError: the start has another architecture.
    """
    hint = ""
    if start.backbones:
        hint = f"Its weights are of {start.backbones[0]}: give --model.backbone {start.backbones[0]}."
        if backbone.split(".")[0] not in {name.split(".")[0] for name in start.backbones}:
            raise CheckpointError(f"{start.path} does not fit --model.backbone {backbone}. {hint}")
    state, changes = fit(body, start.tensors, start.path, hint)
    body.load_state_dict(state)
    return Loaded(replace(start, tensors={}), tuple(changes))  # the tensors are in the model now


def _of_file(path: Path) -> Start:
    tensors = read_weights(path)
    if hugging_face.prefix_of(tensors) is not None:  # a file of a model folder
        beside = hugging_face.normalization(path.parent)
        return Start(path, path.name, "hugging_face", tensors, normalization=beside)
    if _is_xrayvision(tensors):
        # Gray values from -1024 to 1024: (x - 0.5) / (1 / 2048).
        return Start(path, path.name, "torchxrayvision", tensors, normalization=((0.5,) * 3, (1 / 2048,) * 3))
    return Start(path, path.name, "file", tensors)


def _of_run(folder: Path) -> Start:
    inner = folder / "model" if (folder / "model").is_dir() else folder
    if not (inner / "model.json").is_file():
        raise CheckpointError(f"{folder} is not finished. Run the same `trcgl train` command again; it resumes.")
    info = storage.read_json(inner / "model.json")
    path = inner / "model.safetensors"
    tensors = read_weights(path)
    if storage.sha256_file(path) != info["weights_sha256"]:
        raise CheckpointError(f"{path} is not the file that model.json describes. Copy both again, or train again.")
    statistics = tuple(info["preprocessing"]["mean"]), tuple(info["preprocessing"]["std"])
    backbone = info["recipe"]["model"]["backbone"]
    return Start(
        path, folder.resolve().name, "run", tensors, (backbone,), statistics, info.get("license") or UNKNOWN, info
    )


def _is_xrayvision(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint is of torchxrayvision: a stem of one channel of torchvision's names, 18 findings."""
    names = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    stem = next((names[name] for name in _STEMS if name in names), torch.empty(0))
    heads = [names[name] for name in ("classifier.weight", "fc.weight") if name in names]
    return stem.ndim == 4 and stem.shape[1] == 1 and any(len(head) == XRAYVISION_FINDINGS for head in heads)
