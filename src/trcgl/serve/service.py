"""From the bytes of an upload to the answer."""

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float

from trcgl.core.html import png_uri
from trcgl.core.notice import RESEARCH_USE
from trcgl.imaging.file_process import ReadFile, Shape
from trcgl.imaging.limits import Limits
from trcgl.serve.batching import Batcher, Scored
from trcgl.serve.body import Uploads
from trcgl.serve.decoding import DecoderPool
from trcgl.serve.metrics import Metrics
from trcgl.serve.network import Network
from trcgl.serve.options import MIB, ServeOptions
from trcgl.serve.problem import Problem
from trcgl.serve.samples import SAMPLES

SCHEMA = "trcgl.prediction/1"
MAP_SIDE = 224
"""Pixels of the longer side of a map; the grid behind it is coarser."""
PATIENCE = 3.0
"""An upload is given up after this multiple of the longest decoding time."""


class Service:
    """Scores uploads.

    Args:
        network: The model.
        options: Limits of uploads.
    """

    def __init__(self, network: Network, options: ServeOptions) -> None:
        self.network, self.options = network, options
        limits = Limits(bytes=options.max_mib * MIB, pixels=options.max_megapixels * 1_000_000)
        self.card = network.about | {
            "limits": {"bytes": limits.bytes, "pixels": limits.pixels, "seconds": options.seconds},
            "samples": [
                {"id": number, "title": sample.title, "labels": list(sample.findings)}
                for number, sample in SAMPLES.items()
            ],
        }
        self.uploads = Uploads(limits.bytes, options.upload_seconds)
        shape: Shape = (network.about["stored_size"], network.about["fit"])
        self.decoders = DecoderPool((shape,), limits, options.seconds, options.workers)
        self.metrics = Metrics(lambda: self._waiting, self.decoders.processes)
        self.batcher = Batcher(network, options.batch_size, self.metrics)
        self._waiting = 0

    async def predict(self, content: bytes, *, maps: bool) -> dict[str, Any]:
        """The answer of POST /v1/predict.

        Args:
            content: Bytes of the file.
            maps: Add maps, and the picture below them.

        Raises:
            Problem: The file is not a radiograph or too large, or the server is busy.
        """
        start = time.perf_counter()
        with self._turn():
            try:
                async with asyncio.timeout(PATIENCE * self.options.seconds):
                    read = await self._decoded(content, preview=maps)
                    scored = await self.batcher.score(read.pictures[0], maps=maps)
                    digest = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
                    answer = await self._answer(read, scored, digest)
            except TimeoutError as error:
                raise Problem(504, "timeout", "The server is busy. Try again in a minute.") from error
        return answer | {"seconds": time.perf_counter() - start}

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._waiting >= self.options.queue:
            raise Problem(503, "busy", f"{self._waiting} uploads are waiting. Try again in a few seconds.")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _decoded(self, content: bytes, *, preview: bool) -> ReadFile:
        self.batcher.coming += 1
        try:
            return await self.decoders.read(content, self.metrics, preview=preview)
        finally:
            self.batcher.coming -= 1

    async def _answer(self, read: ReadFile, scored: Scored, digest: str) -> dict[str, Any]:
        about = self.network.about
        pictures = None if scored.maps is None else await asyncio.to_thread(map_pictures, scored.maps, read)
        rows, columns = read.original_size
        return {
            "schema": SCHEMA,
            "research_use": RESEARCH_USE,
            "model": {name: about[name] for name in ("name", "weights_sha256")},
            "image": {"width": columns, "height": rows, "format": read.kind, "sha256": digest},
            "calibrated": about["calibrated"],
            "findings": ranked(scored.scores, about["findings"], pictures),
            "map_kind": None if pictures is None else about["map_kind"],
            "picture": None if read.preview is None else png_uri(read.preview),
        }


def ranked(
    scores: Float[np.ndarray, " findings"], known: Sequence[dict[str, Any]], maps: Sequence[str] | None
) -> list[dict[str, Any]]:
    """The findings, the highest score first.

    Args:
        scores: Scores in the order of `known`, float32.
        known: Name, group and threshold of each finding.
        maps: Map of each finding as a data URI, or None.
    """
    rows = []
    for place in np.argsort(-scores, kind="stable").tolist():
        threshold = known[place]["threshold"]
        # Compared in float32, as `trcgl predict` does.
        called = None if threshold is None else bool(scores[place] >= threshold)
        map_uri = maps[place] if maps else None
        rows.append({**known[place], "score": float(scores[place]), "called": called, "map": map_uri})
    return rows


def map_pictures(maps: Float[np.ndarray, "findings rows columns"], read: ReadFile) -> list[str]:
    """Each map as a PNG data URI in the proportions of the radiograph.

    Args:
        maps: Values from 0 to 1 over the square input of the network.
        read: The radiograph.
    """
    from trcgl.predict.overlay import heat_uri, small_map

    side = len(read.pictures[0])
    return [heat_uri(small_map(grid, read.original_size, read.placements[0], side, MAP_SIDE)) for grid in maps]
