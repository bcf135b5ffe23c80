"""The model folder: everything inference needs, in `model.safetensors` and `model.json`, without any pickle."""

import dataclasses
import json
import re
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from trcgl.core import storage
from trcgl.core.errors import CheckpointError, DataError, Reason, TrcglError
from trcgl.core.folder_kind import MODEL, RUN, expect
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.recipe import Recipe, from_json
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.sources.phantom import SPACE as PHANTOM_SPACE
from trcgl.imaging.gray import to_uint8
from trcgl.imaging.radiograph import Fit, fit_square, read_radiograph
from trcgl.model.hub import pull
from trcgl.model.tensors import at_size, to_unit
from trcgl.model.trcgl_net import TrcglNet
from trcgl.model.weights_file import read_safetensors

SCHEMA = "trcgl.model/1"
_FIELDS = ("weights_sha256", "recipe", "label_space", "preprocessing", "thresholds", "temperature", "license")
_NETWORK, _ADJACENCY, _VECTORS = "network.", "adjacency", "vectors"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

Picture = str | Path | Image.Image | Num[np.ndarray, "rows columns"]
"""A radiograph of any size: a file, a PIL image, or its gray values."""
Images = UInt8[np.ndarray, "batch height width"]
Square = UInt8[np.ndarray, "batch side side"]
Scores = Float[np.ndarray, "batch findings"]


@dataclass(frozen=True)
class Prediction:
    """Scores of one radiograph."""

    scores: dict[str, float]
    """Finding to its probability, the highest first."""
    positive: tuple[str, ...] | None
    """Findings that reach their threshold fitted on val, the highest first; None before `trcgl evaluate`."""


@dataclass(frozen=True)
class LoadedModel:
    """A trained network in evaluation mode, ready to score; outputs are in the order of `space.findings`.

    `info` is the content of `model.json`. `thresholds` by finding and `temperature` are fitted on val, and None before
    `trcgl evaluate`. `adjacency` is Â, also for a head that does not use it; the identity where the graph is learned.
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
    def fit(self) -> Fit:
        """How a radiograph was made square: `letterbox` or `squash`."""
        return self.info["preprocessing"]["fit"]

    @property
    def shape(self) -> tuple[int, Fit]:
        """Side and fit of the images of the training dataset. A radiograph is read in this shape, then `resized`."""
        return self.info["preprocessing"]["stored_size"], self.fit

    @property
    def accept(self) -> frozenset[str]:
        """Reasons of `core.errors.REASONS` for which files of the training dataset were not refused."""
        return frozenset(self.info["preprocessing"].get("accept", ()))

    @property
    def knows_mirrored(self) -> bool:
        """Whether the model was trained on radiographs that were flipped left to right."""
        return self.info["recipe"].get("augment", {}).get("horizontal_flip", False)

    @property
    def of_phantoms(self) -> bool:
        """Whether the model was trained on rendered phantoms."""
        return self.info["source"] == "phantom"

    def resized(self, images: Images) -> Square:
        """Square images at the input size of the network, resized as in training and evaluation."""
        return at_size(torch.tensor(images), self.image_size).numpy()

    def require_size(self, images: Images) -> None:
        """Refuse images of another size than the network's input."""
        if images.shape[1:] != (self.image_size, self.image_size):
            raise DataError(
                f"images are {images.shape[1]} x {images.shape[2]} pixels, the model takes {self.image_size} x "
                f"{self.image_size}. Resize them with `model.resized(images)`."
            )

    def logits(self, images: Images, *, batch_size: int = 64) -> Scores:
        """Raw logits, float32, of images of the model's input size."""
        self.require_size(images)
        rows = [np.empty((0, len(self.space.findings)), np.float32)]
        for start in range(0, len(images), batch_size):
            rows.append(self._forward(np.array(images[start : start + batch_size], order="C")))
        return np.concatenate(rows)

    def _forward(self, images: Square) -> Scores:
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self.network.mean.device)
            return self.network(to_unit(batch)).logits.float().cpu().numpy()

    def score(self, images: Images, *, batch_size: int = 64) -> Scores:
        """Probabilities, sigmoid(logit / temperature), float32; calibrated once `trcgl evaluate` has run."""
        logits = torch.from_numpy(self.logits(images, batch_size=batch_size))
        return torch.sigmoid(logits / (self.temperature or 1.0)).numpy()

    __call__ = score

    @overload
    def predict(self, images: Picture, *, accept: Collection[Reason] = ()) -> Prediction: ...
    @overload
    def predict(self, images: list[Any] | tuple[Any, ...], *, accept: Collection[Reason] = ()) -> list[Prediction]: ...
    def predict(
        self, images: Picture | list[Any] | tuple[Any, ...], *, accept: Collection[Reason] = ()
    ) -> Prediction | list[Prediction]:
        """Score one radiograph of any size, or several.

            model.predict("scan.dcm").scores                     # finding to probability, highest first
            model.predict([array, "scan.png", Image.open("scan.jpg")])

        Each radiograph is read in the shape of the training dataset and then resized, as `trcgl evaluate` does.

        Args:
            images: a file (PNG, JPEG, DICOM), the gray values (H, W) of a radiograph with bright bone on dark air, or a
                PIL image; or a list of these.
            accept: score files that are refused for these reasons, in addition to the reasons that the training dataset
                accepted: `blank`, `for-processing` (raw detector values), `body-part`, `modality`.

        Returns:
            A `Prediction`, or a list of them in the order of the list.

        Raises:
            UnreadableImage: a file is missing, damaged or no radiograph.
            NotAccepted: a file is readable, but blank, or no chest radiograph for display; `reason` says which.
        """
        if not isinstance(images, list | tuple):
            return self.predict([images], accept=accept)[0]
        if not images:
            return []
        accepted = self.accept.union(accept)
        scores = self.score(self.resized(np.stack([self._pixels(image, accepted) for image in images])))
        return [self._prediction(row) for row in scores.tolist()]

    def _pixels(self, image: Picture, accept: Set[str]) -> UInt8[np.ndarray, "side side"]:
        size, fit = self.shape
        if isinstance(image, str | Path):
            return read_radiograph(Path(image), size=size, fit=fit, accept=accept).pixels
        if isinstance(image, Image.Image):
            gray = image.mode in ("L", "I", "F") or image.mode.startswith("I;16")
            image = np.asarray(image if gray else image.convert("L"))
        return fit_square(to_uint8(image)[0], size, fit)[0]

    def _prediction(self, scores: list[float]) -> Prediction:
        ranked = dict(sorted(zip(self.space.findings, scores, strict=True), key=lambda pair: -pair[1]))
        if (limits := self.thresholds) is None:
            return Prediction(ranked, None)
        return Prediction(ranked, tuple(finding for finding, score in ranked.items() if score >= limits[finding]))


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
    source: str | None = None,
    vectors: Float[Tensor, "findings text"] | None = None,
    synthetic: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder without calibration, each file atomically, `model.json` last.

    `preprocessing` has `image_size` (side of the network's input in pixels), `fit`, and `stored_size` (side of the
    images of the training dataset). The digest of the training patients detects leaks later. `license` is that of the
    initial weights, `source` that of the training dataset, such as `nih`. With the text `vectors` of the initial label
    embeddings, loading needs no text model. `synthetic` is the folder, digest and number of synthetic training images;
    `start` is the record of the initial weights, where they came from a file or folder.
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
            "thresholds": None,
            "temperature": None,
            "training_patient_digest": training_patient_digest,
            "synthetic": dict(synthetic) if synthetic else None,
            "license": license,
            **({"start": dict(start)} if start else {}),
            "source": source,
            "research_use": RESEARCH_USE,
        },
    )


def load_model(
    folder_or_hub_id: str | Path, *, revision: str | None = None, device: str | torch.device = "cpu"
) -> LoadedModel:
    """Open a trained model. Nothing is unpickled; a folder is read without network access.

        model = trcgl.load_model("run", device="cuda")
        model.predict("scan.dcm").scores                         # finding to probability, highest first

    Args:
        folder_or_hub_id: a run folder or a model folder; a string may also be `OWNER/NAME` on the Hugging Face hub,
            where no such folder exists.
        revision: branch, tag or commit on the hub; None takes the main branch.
        device: device of the network, such as `cuda`.

    Returns:
        A `LoadedModel`. Its `predict` scores radiographs of any size: files, arrays or PIL images. Called directly, it
        maps images (B, H, W) uint8 of the model's size to probabilities (B, C).

    Raises:
        CheckpointError: the model does not exist, one of its files is damaged, or they do not belong together.
    """
    folder = model_folder(Path(folder_or_hub_id))
    if isinstance(folder_or_hub_id, str) and _HUB_ID.fullmatch(folder_or_hub_id) and not folder.exists():
        folder = pull(folder_or_hub_id, revision=revision)
    info = _completed(_read_info(folder), folder)
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
    network = TrcglNet(recipe.model, findings, adjacency, vectors=vectors, load_weights=False)
    try:
        network.load_state_dict({name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items()})
    except RuntimeError as error:
        lines = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise CheckpointError(f"{path} does not fit model.json's network: {lines} Train the model again.") from error
    network = network.to(device).eval()
    return LoadedModel(network, space, info, info["thresholds"], info["temperature"], adjacency)


def dataset_of(run_folder: Path) -> dict[str, Any] | None:
    """The `dataset.json` that a run was trained on; None if it has moved, changed, or this is no run folder."""
    run_folder = Path(run_folder).resolve()
    if not (run_folder / "run.json").is_file():
        return None
    run = storage.read_json(run_folder / "run.json")
    path = run_folder / run["dataset"] / "dataset.json"
    if not path.is_file() or storage.sha256_file(path) != run["dataset_digest"]:
        return None
    return storage.read_json(path)


def best_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def model_folder(folder: Path) -> Path:
    """The model folder of a run folder, or the folder itself where it is one."""
    inner = Path(folder) / "model"
    return inner if inner.is_dir() else Path(folder)


def update_calibration(folder: Path, thresholds: Mapping[str, float], temperature: float) -> None:
    """Write the calibration into `model.json`.

    Raises:
        CheckpointError: a finding is unknown or has no threshold, or the temperature is not positive.
    """
    info = _read_info(folder)
    if different := sorted(set(thresholds) ^ set(info["label_space"]["findings"])):
        raise CheckpointError(
            f"{folder}: thresholds and label space differ in {', '.join(different)}. Fit on predictions of this model."
        )
    if not temperature > 0:
        raise CheckpointError(f"{folder}: temperature {temperature} is not positive. Fit it on val again.")
    storage.write_json(folder / "model.json", {**info, "thresholds": dict(thresholds), "temperature": temperature})


def _read_info(folder: Path) -> dict[str, Any]:
    expect(folder, RUN, MODEL, error=CheckpointError)
    path = folder / "model.json"
    try:
        info = storage.read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    found = info.get("schema") if isinstance(info, dict) else None
    if found != SCHEMA:
        raise CheckpointError(f"{path}: schema {found!r}, expected {SCHEMA!r}. Train the model with this version.")
    if missing := [name for name in _FIELDS if name not in info]:
        raise CheckpointError(f"{path}: {', '.join(missing)} missing. Copy the folder again, or train the model again.")
    return info


def _completed(info: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Add the source and the image size of the training dataset, which models of trcgl 0.1.0 do not record.

    They come from the dataset beside the run. Without it, the stored size is that of the network's input, and only the
    label space of the phantom program tells phantoms.
    """
    preprocessing = info["preprocessing"]
    if info.get("source") and "stored_size" in preprocessing:
        return info
    dataset = dataset_of(folder.resolve().parent) or {}
    known, source = info["label_space"], info.get("source") or dataset.get("source")
    if source is None and known["name"] == PHANTOM_SPACE.name and tuple(known["findings"]) == PHANTOM_SPACE.findings:
        source = "phantom"
    stored_size = preprocessing.get("stored_size") or dataset.get("image_size") or preprocessing["image_size"]
    return {**info, "source": source, "preprocessing": {**preprocessing, "stored_size": stored_size}}


def _portable(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()
