"""Features of a frozen backbone, computed once for every image of train and val and cached on disk."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trcgl.core import storage
from trcgl.core.errors import DataError, Interrupted, RecipeError
from trcgl.core.progress import track
from trcgl.core.recipe import Recipe
from trcgl.dataset.store import Dataset
from trcgl.model.tensors import at_size, to_unit
from trcgl.model.trcgl_net import TrcglNet
from trcgl.training.batches import RadiographData
from trcgl.training.launch import Launch
from trcgl.training.stop import StopRequest
from trcgl.training.trainer import on_gpu, say

FOLDER = "features"
"""Folder of the features within a run, without `train.features`."""
_BATCH = 16  # images in a forward pass
_SAVED_EVERY = 20  # batches between two records of what is done
_SHAPES_THE_MAP = ("backbone", "output_stride", "patch_size", "image_size", "feature_grid")


def read_cached_features(
    data: RadiographData, network: TrcglNet, recipe: Recipe, out: Path, launch: Launch, request: StopRequest
) -> None:
    """Compute the features of all training and val images that are not cached yet, and let `data` read them.

    The cache of a dataset is a folder whose name is a digest of the rows, of the weights and of the settings that
    decide the features, so that runs with other heads, losses or learning rates share it.

    Args:
        data: the rows of the run; its images are replaced by their features.
        network: the network with its initial weights.
        recipe: the recipe, with `train.frozen_backbone`.
        out: the run folder.
        launch: the processes of the run.
        request: a signal that stops the work after a batch; what is done is kept.

    Raises:
        RecipeError: several processes would train, or a feature is beyond the range of float16.
        DataError: the disk has too little space.
        Interrupted: a signal has arrived.
    """
    if launch.devices * launch.nodes != 1:
        raise RecipeError("train.frozen_backbone trains in one process. Give --train.devices 1 --train.nodes 1.")
    say("the backbone is frozen: features are computed once per image, without augmentation and mixup")
    folder = Path(recipe.train.features) if recipe.train.features else out / FOLDER
    network.to("cuda" if on_gpu(recipe.train.accelerator) else "cpu").eval()
    weights = _digest_of_weights(network)
    for dataset, rows in data.images_of_run():
        path = _cache(dataset, rows, folder, weights, network, recipe, request)
        data.read_features(dataset, path, rows)
    network.train()


def remove_own_features(recipe: Recipe, out: Path) -> None:
    """Remove the cache within a run folder; a folder of `train.features` is kept for other runs."""
    if recipe.train.frozen_backbone and not recipe.train.features:
        shutil.rmtree(out / FOLDER, ignore_errors=True)


def _cache(
    dataset: Dataset,
    rows: np.ndarray,
    folder: Path,
    weights: str,
    network: TrcglNet,
    recipe: Recipe,
    request: StopRequest,
) -> Path:
    images = dataset.require_images()
    shape = _features(network, images[rows[:1]], recipe).shape[1:]
    key = {
        "dataset": storage.sha256_file(dataset.folder / "dataset.json"),
        "rows": hashlib.sha256(rows.tobytes()).hexdigest(),
        "weights": weights,
        "precision": recipe.train.precision,
        **{name: value for name, value in dataclasses.asdict(recipe.model).items() if name in _SHAPES_THE_MAP},
    }
    own = folder / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path, record = own / "features.npy", own / "features.json"
    done = storage.read_json(record)["done"] if record.is_file() and path.is_file() else 0
    size = len(rows) * int(np.prod(shape)) * 2
    if not done:
        _require_space(folder, size, shape)
        own.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(rows), *shape)).flush()
    elif done == len(rows):
        say(f"features of {len(rows):,} images are read from {own}")
        return path
    form = " x ".join(map(str, shape))
    say(f"features of {len(rows):,} images ({form}, float16) take {_gigabytes(size)} in {own}")
    features = np.load(path, mmap_mode="r+")
    starts = range(done, len(rows), _BATCH)
    for number, start in enumerate(track(starts, what="features", unit="batches"), start=1):
        part = rows[start : start + _BATCH]
        features[start : start + len(part)] = _features(network, images[part], recipe)
        done = start + len(part)
        stop = request.signal is not None
        if stop or done == len(rows) or number % _SAVED_EVERY == 0:
            features.flush()
            storage.write_json(record, {**key, "done": done})
        if stop and done < len(rows):
            assert request.signal is not None
            what = f"the features of {done:,} of {len(rows):,} images"
            raise Interrupted(request.signal, f"stopped after {what}; the same command resumes from there.")
    return path


@torch.inference_mode()
def _features(network: TrcglNet, images: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Feature maps (b, D, h, w) float16 of stored images (b, H, W) uint8."""
    device, precision = network.mean.device, recipe.train.precision
    image = to_unit(at_size(torch.from_numpy(np.array(images)).to(device), recipe.model.image_size))
    half = torch.float16 if precision == "16-mixed" else torch.bfloat16
    with torch.autocast(device.type, half, enabled=precision != "32-true"):
        feature = network.backbone_features(image)
    feature = feature.half()
    if not feature.isfinite().all():
        raise RecipeError(
            "train.frozen_backbone: features are beyond the range of float16. Check that --model.weights and "
            "--model.pixel-mean belong to this backbone, or train without it."
        )
    return feature.cpu().numpy()


def _require_space(folder: Path, size: int, shape: Any) -> None:
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if size < free:
        return
    grid = max(1, min(shape[1:]) // 4)
    smaller = f" --model.feature-grid {grid} ({_gigabytes(size // (shape[1] * shape[2]) * grid**2)})," if grid else ""
    raise DataError(
        f"{folder}: the features take {_gigabytes(size)}, and {_gigabytes(free)} are free. Give{smaller} or "
        "--train.features FOLDER on another disk."
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"


def _digest_of_weights(network: TrcglNet) -> str:
    """Digest of everything that the frozen part computes with."""
    whole = hashlib.sha256()
    for part in (network.backbone, network.norm):
        for name, tensor in part.state_dict().items():
            whole.update(name.encode())
            whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    whole.update(network.mean.cpu().numpy().tobytes() + network.std.cpu().numpy().tobytes())
    return whole.hexdigest()
