"""Latents of the training images, encoded once by a frozen autoencoder and kept on disk while a generator is trained.

Stored are the mean and the standard deviation of the latents of each image, so that training samples new latents at
every step, as it does without the cache. Parts are written whole or not at all: an interrupted run encodes no image
twice.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float16, Int
from torch.utils import data

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.generator_recipe import UNCHANGED, GeneratorRecipe
from trcgl.core.parts import Parts
from trcgl.core.progress import track
from trcgl.generate.autoencoder import Autoencoder, Exactly, encode
from trcgl.model.tensors import at_size, to_unit
from trcgl.training.batches import Part, SplitRows
from trcgl.training.trainer import say

SCHEMA = "trcgl.latents/1"
_IMAGES_PER_PART = 256
_TOGETHER = 32  # images encoded at once, in slices if they are large; independent of the batch size of training


@dataclass(frozen=True)
class LatentCache:
    """Means and standard deviations of the unscaled latents of training rows, as float16 files.

    A part is an array (images, 2, channels, h, w); index 0 of the second axis is the mean.
    """

    parts: Parts
    image_size: int  # side of the encoded images in pixels
    shape: tuple[int, int, int]  # channels, height and width of the latents of an image

    @property
    def bytes(self) -> int:
        """Size of all parts."""
        return self.parts.items * 2 * int(np.prod(self.shape)) * np.dtype(np.float16).itemsize

    def encode(self, autoencoder: Autoencoder, rows: SplitRows, rank: int = 0, processes: int = 1) -> Iterator[int]:
        """Encode the missing parts of one process, on the device of the autoencoder; yields rows once encoded."""
        self.parts.folder.mkdir(parents=True, exist_ok=True)
        for number in range(rank, len(self.parts), processes):
            if self.parts.path(number).exists():
                continue
            encoded = []
            places = np.array(self.parts.rows(number))
            for start in range(0, len(places), _TOGETHER):
                batch = torch.from_numpy(rows.pixels(places[start : start + _TOGETHER])).to(autoencoder.device)
                with torch.no_grad():
                    latents = encode(autoencoder, to_unit(at_size(batch, self.image_size)) * 2 - 1)
                assert not isinstance(latents, Exactly)  # `latent_cache` caches those of a VAE alone
                encoded.append(torch.stack([latents.mean, latents.std], 1).half().cpu().numpy())
                yield from places[start : start + _TOGETHER].tolist()
            with storage.atomic(self.parts.path(number)) as aside, aside.open("wb") as file:
                np.save(file, np.concatenate(encoded))

    def read(self, rows: Int[np.ndarray, " rows"]) -> Float16[np.ndarray, "rows 2 channels h w"]:
        """Means and standard deviations of some training rows."""
        found = np.empty((len(rows), 2, *self.shape), np.float16)
        of_part, place = np.divmod(rows, self.parts.size)
        for number in np.unique(of_part).tolist():
            own = of_part == number
            found[own] = np.load(self.parts.path(number), mmap_mode="r", allow_pickle=False)[place[own]]
        return found


class LatentRows(data.Dataset[dict[str, Any]]):
    """Training rows with their cached latents instead of images; see `SplitRows`."""

    def __init__(self, rows: SplitRows, cache: LatentCache) -> None:
        self._rows, self._cache = rows, cache

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: Part) -> dict[str, Any]:
        """Latents (b, 2, channels, h, w) float16, labels, and the fields of the part."""
        return {"latent": torch.from_numpy(self._cache.read(part.rows)), **self._rows.fields(part)}


def latent_cache(
    folder: Path, autoencoder: Autoencoder, recipe: GeneratorRecipe, dataset_digest: str, rows: int, *, first: bool
) -> LatentCache | None:
    """The cache of a generator in training; None if it is switched off, or would not be exact or not pay.

    Space-to-depth computes nothing, and augmented images are different at every step. Parts that were encoded from
    other images or by another autoencoder are removed. `first`: this is the first process, which checks and removes.

    Raises:
        DataError: the disk is too small.
    """
    if not recipe.autoencoder.cache_latents or not isinstance(autoencoder, AutoencoderKL):
        return None
    if recipe.augment != UNCHANGED:
        if first:
            say("training images are augmented, so each is encoded anew whenever it is shown")
        return None
    levels = len(autoencoder.config["block_out_channels"])
    side = recipe.image_size // 2 ** (levels - 1)
    shape = (autoencoder.config["latent_channels"], side, side)
    cache = LatentCache(Parts(folder, rows, _IMAGES_PER_PART), recipe.image_size, shape)
    if first:
        _claim(cache, autoencoder, dataset_digest)
    return cache


def encode_missing(
    cache: LatentCache, autoencoder: Autoencoder, rows: SplitRows, rank: int = 0, processes: int = 1
) -> None:
    """Encode what the cache lacks, with a progress bar on the first process."""
    work = cache.encode(autoencoder, rows, rank, processes)
    own = sum(len(cache.parts.rows(part)) for part in cache.parts.missing() if part % processes == rank)
    if own and not rank:
        work = iter(track(work, own, "encoding training images", unit="images"))
    for _ in work:
        pass


def _claim(cache: LatentCache, autoencoder: AutoencoderKL, dataset_digest: str) -> None:
    folder = cache.parts.folder
    folder.mkdir(parents=True, exist_ok=True)
    weights = hashlib.sha256()
    for name, value in sorted(autoencoder.state_dict().items()):
        weights.update(name.encode() + value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    key = {
        "schema": SCHEMA,
        "dataset_digest": dataset_digest,
        "image_size": cache.image_size,
        "autoencoder": weights.hexdigest(),
    }
    path = folder / "latents.json"
    if not path.exists() or storage.read_json(path) != key:
        cache.parts.clear()
        storage.write_json(path, key)
    cache.parts.remove_unfinished()
    missing = len(cache.parts.missing()) / max(1, len(cache.parts))
    free = shutil.disk_usage(folder).free
    if free < missing * cache.bytes:
        raise DataError(
            f"{folder}: the latents of {cache.parts.items:,} training images need {cache.bytes / 2**30:.1f} GiB, but "
            f"{free / 2**30:.1f} GiB are free. Free some space, or encode images at every step: "
            "--autoencoder.no-cache-latents"
        )
    if missing:
        size = f"{max(1, round(cache.bytes / 2**20)):,} MiB"
        say(f"{folder}: latents of {cache.parts.items:,} training images, {size}; removed when training has finished")
