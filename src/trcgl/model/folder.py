"""The model folder: all that inference needs, in `model.safetensors` and `model.json`. Nothing in it is a pickle."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from safetensors.torch import save_file
from torch import Tensor

from trcgl.core import storage
from trcgl.core.errors import CheckpointError, DataError, TrcglError
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.recipe import Recipe, from_json
from trcgl.dataset.labels import LabelSpace
from trcgl.imaging.radiograph import Fit, fit_square, read_radiograph, to_uint8
from trcgl.model.trcgl_net import TrcglNet, build_network
from trcgl.model.weights import read_safetensors

SCHEMA = "trcgl.model/1"
_FIELDS = ("weights_sha256", "recipe", "label_space", "preprocessing", "thresholds", "temperature", "license")
_NETWORK, _ADJACENCY, _VECTORS = "network.", "adjacency", "vectors"


@dataclass(frozen=True)
class Prediction:
    """What a model says about one radiograph.

    Args:
        scores: finding to its probability, the largest first.
        positive: the findings whose probability reaches the threshold fitted on val, the most probable first; None
            before `trcgl evaluate`.
    """

    scores: dict[str, float]
    positive: tuple[str, ...] | None


@dataclass(frozen=True)
class LoadedModel:
    """A trained network, ready to score.

    Args:
        network: in evaluation mode.
        space: its label space; outputs are in the order of `space.findings`.
        info: the content of `model.json`.
        thresholds: finding to the threshold fitted on val, or None before `trcgl evaluate`.
        temperature: fitted on val, or None before `trcgl evaluate`.
        adjacency: Â (C, C), also for a head that does not use it; the identity where the graph is learned.
    """

    network: TrcglNet
    space: LabelSpace
    info: dict[str, Any]
    thresholds: dict[str, float] | None
    temperature: float | None
    adjacency: Tensor

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        return self.info["preprocessing"]["image_size"]

    @property
    def fit(self) -> str:
        """How a radiograph was made square: `letterbox` or `squash`."""
        return self.info["preprocessing"]["fit"]

    def logits(
        self, images: UInt8[np.ndarray, "batch height width"], *, batch_size: int = 64
    ) -> Float[np.ndarray, "batch findings"]:
        """Raw logits, float32.

        Raises:
            DataError: the images are not of the model's size.
        """
        if images.shape[1:] != (self.image_size, self.image_size):
            raise DataError(
                f"images are {images.shape[1]} x {images.shape[2]} pixels, the model takes {self.image_size} x "
                f"{self.image_size}. Prepare them with --size {self.image_size}."
            )
        rows = [np.empty((0, len(self.space.findings)), np.float32)]
        for start in range(0, len(images), batch_size):
            rows.append(self._forward(np.array(images[start : start + batch_size], order="C")))
        return np.concatenate(rows)

    def _forward(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings"]:
        """Logits of one batch, float32."""
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self.network.mean.device)
            return self.network(batch[:, None].float() / 255).logits.float().cpu().numpy()

    def score(
        self, images: UInt8[np.ndarray, "batch height width"], *, batch_size: int = 64
    ) -> Float[np.ndarray, "batch findings"]:
        """Probabilities, calibrated where a temperature was fitted: sigmoid(logit / temperature), float32.

        Raises:
            DataError: the images are not of the model's size.
        """
        logits = torch.from_numpy(self.logits(images, batch_size=batch_size))
        return torch.sigmoid(logits / (self.temperature or 1.0)).numpy()

    def __call__(
        self, images: UInt8[np.ndarray, "batch height width"], *, batch_size: int = 64
    ) -> Float[np.ndarray, "batch findings"]:
        """The same as `score`."""
        return self.score(images, batch_size=batch_size)

    def predict(self, image: str | Path | Num[np.ndarray, "rows columns"]) -> Prediction:
        """Score one radiograph of any size.

        Args:
            image: a file (PNG, JPEG, DICOM); or its gray values, bright bone on dark air, by the pixel rule.

        Raises:
            UnreadableImage: the file is missing, damaged or no radiograph.
        """
        fit = cast(Fit, self.fit)
        if isinstance(image, (str, Path)):
            pixels = read_radiograph(Path(image), size=self.image_size, fit=fit).pixels
        else:
            pixels, _ = fit_square(to_uint8(image)[0], self.image_size, fit)
        scores = dict(zip(self.space.findings, self.score(pixels[None])[0].tolist(), strict=True))
        ranked = dict(sorted(scores.items(), key=lambda pair: -pair[1]))
        if self.thresholds is None:
            return Prediction(ranked, None)
        return Prediction(ranked, tuple(one for one, score in ranked.items() if score >= self.thresholds[one]))


def save_model(
    folder: Path,
    network: TrcglNet,
    *,
    recipe: Recipe,
    space: LabelSpace,
    preprocessing: Mapping[str, Any],
    adjacency: Float[Tensor, "findings findings"],
    training_patient_digest: str,
    license: str,
    vectors: Float[Tensor, "findings text"] | None = None,
    synthetic: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, float] | None = None,
    temperature: float | None = None,
) -> None:
    """Write a model folder; each file appears whole or not at all, `model.json` last.

    Args:
        folder: where to.
        network: the trained network, on any device.
        recipe: what it was trained with.
        space: label space of its outputs.
        preprocessing: at least `image_size` and `fit`; the input normalization is added.
        adjacency: Â that the network was built with.
        training_patient_digest: `storage.digest` of the training patients, so that a leak can be seen later.
        license: of the initial weights.
        vectors: of the text model that label embeddings started from, which a loaded model then does not need.
        synthetic: which drawn images it was trained with.
        thresholds: finding to threshold.
        temperature: of the calibration.

    Raises:
        DataError: the folder cannot be written to.
    """
    folder = Path(folder)
    tensors = {_NETWORK + name: _portable(tensor) for name, tensor in network.state_dict().items()}
    tensors[_ADJACENCY] = _portable(adjacency)
    if vectors is not None:
        tensors[_VECTORS] = _portable(vectors)
    with storage.atomic(folder / "model.safetensors") as aside:
        save_file(tensors, aside)
    normalization = {"mean": network.mean.flatten().tolist(), "std": network.std.flatten().tolist()}
    storage.write_json(
        folder / "model.json",
        {
            "schema": SCHEMA,
            "weights_sha256": storage.sha256_file(folder / "model.safetensors"),
            "recipe": dataclasses.asdict(recipe),
            "label_space": space.to_dict(),
            "preprocessing": {**preprocessing, "channels": "gray repeated to 3", **normalization},
            "thresholds": dict(thresholds) if thresholds is not None else None,
            "temperature": temperature,
            "training_patient_digest": training_patient_digest,
            "synthetic": dict(synthetic) if synthetic else None,
            "license": license,
            "research_use": RESEARCH_USE,
        },
    )


def load_model(folder: Path, *, device: str | torch.device = "cpu") -> LoadedModel:
    """Open a model folder. Nothing is unpickled and nothing is fetched.

    Raises:
        CheckpointError: a file is missing, damaged, of another schema, or the two do not belong together.
    """
    folder = Path(folder)
    info = _read_info(folder)
    try:
        recipe = from_json(json.dumps(info["recipe"]))
        space = LabelSpace.from_dict(info["label_space"])
    except TrcglError as error:
        raise CheckpointError(f"{folder}/model.json: {error} Train the model again.") from error
    path = folder / "model.safetensors"
    tensors = read_safetensors(path)
    if storage.sha256_file(path) != info["weights_sha256"]:
        raise CheckpointError(f"{path} is not the file that model.json describes. Copy both again, or train again.")
    findings = len(space.findings)
    adjacency = tensors.pop(_ADJACENCY, None)
    if adjacency is None or adjacency.shape != (findings, findings):
        found = "missing" if adjacency is None else tuple(adjacency.shape)
        raise CheckpointError(f"{path}: the label graph is {found}, not {(findings, findings)}. Train the model again.")
    vectors = tensors.pop(_VECTORS, None)
    if (vectors is None) != (recipe.model.label_text is None) or (vectors is not None and len(vectors) != findings):
        raise CheckpointError(f"{path}: the text vectors do not fit model.json's label_text. Train the model again.")
    network = build_network(recipe.model, findings, adjacency, vectors=vectors, load_weights=False)
    try:
        network.load_state_dict({name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items()})
    except RuntimeError as error:
        lines = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise CheckpointError(f"{path} does not fit model.json's network: {lines} Train the model again.") from error
    network = network.to(device).eval()
    return LoadedModel(network, space, info, info["thresholds"], info["temperature"], adjacency)


def best_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def model_folder(folder: Path) -> Path:
    """The model folder of a run folder, or the folder itself where it is one."""
    inner = Path(folder) / "model"
    return inner if inner.is_dir() else Path(folder)


def update_calibration(folder: Path, thresholds: Mapping[str, float], temperature: float) -> None:
    """Write what was fitted on val into `model.json`.

    Raises:
        CheckpointError: `model.json` is missing or not ours, a finding is unknown or has no threshold, or the
            temperature is not positive.
    """
    folder = Path(folder)
    info = _read_info(folder)
    if different := sorted(set(thresholds) ^ set(info["label_space"]["findings"])):
        raise CheckpointError(
            f"{folder}: thresholds and label space differ in {', '.join(different)}. Fit on predictions of this model."
        )
    if not temperature > 0:
        raise CheckpointError(f"{folder}: temperature {temperature} is not positive. Fit it on val again.")
    storage.write_json(folder / "model.json", {**info, "thresholds": dict(thresholds), "temperature": temperature})


def _read_info(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    try:
        info = storage.read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(info, dict) or info.get("schema") != SCHEMA:
        found = info.get("schema") if isinstance(info, dict) else None
        raise CheckpointError(f"{path}: schema {found!r}, expected {SCHEMA!r}. Train the model with this version.")
    if missing := [name for name in _FIELDS if name not in info]:
        raise CheckpointError(f"{path}: {', '.join(missing)} missing. Copy the folder again, or train the model again.")
    return info


def _portable(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()
