"""One upload from its bytes to the answer."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trcgl.core.html import png_uri
from trcgl.core.notice import RESEARCH_USE
from trcgl.imaging.file_process import ReadFile, Shape
from trcgl.imaging.limits import Limits
from trcgl.serve.answers import ranked, shown_maps
from trcgl.serve.batching import Batcher, Looked
from trcgl.serve.body import Uploads
from trcgl.serve.decoding import DecoderPool
from trcgl.serve.metrics import Metrics
from trcgl.serve.network import Network
from trcgl.serve.options import MIB, ServeOptions
from trcgl.serve.problem import Problem
from trcgl.serve.samples import SAMPLES

SCHEMA = "trcgl.prediction/1"
PATIENCE = 3.0
"""An upload may wait this many times as long as decoding one may take, before it is given up."""


class Service:
    """All that answers uploads.

    Args:
        network: the model.
        options: what is accepted.
    """

    def __init__(self, network: Network, options: ServeOptions) -> None:
        self.network, self.options = network, options
        limits = Limits(bytes=options.max_mib * MIB, pixels=options.max_megapixels * 1_000_000)
        self.card = network.about | {
            "limits": {"bytes": limits.bytes, "pixels": limits.pixels, "seconds": options.seconds},
            "samples": [
                {"id": one, "title": each.title, "labels": list(each.findings)} for one, each in SAMPLES.items()
            ],
        }
        self.uploads = Uploads(limits.bytes, options.upload_seconds)
        shape: Shape = (network.about["stored_size"], network.about["fit"])
        self.decoders = DecoderPool((shape,), limits, options.seconds, options.workers)
        self.metrics = Metrics(lambda: self._waiting, self.decoders.processes)
        self.batcher = Batcher(network, options.batch_size, self.metrics)
        self._waiting = 0

    async def predict(self, content: bytes, *, maps: bool) -> dict[str, Any]:
        """Answer of POST /v1/predict.

        Args:
            content: of the file.
            maps: whether maps and the picture that they lie on are wanted.

        Raises:
            Problem: the file is no radiograph or too large, or there is too much to do.
        """
        start = time.perf_counter()
        with self._turn():
            try:
                async with asyncio.timeout(PATIENCE * self.options.seconds):
                    read = await self._decoded(content, preview=maps)
                    looked = await self.batcher.look(read.pictures[0], maps=maps)
                    digest = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
                    answer = await self._answer(read, looked, digest)
            except TimeoutError as error:
                raise Problem(504, "timeout", "The server has too much to do. Try again in a minute.") from error
        return answer | {"seconds": time.perf_counter() - start}

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._waiting >= self.options.queue:
            raise Problem(503, "busy", f"{self._waiting} uploads wait already. Try again in a few seconds.")
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

    async def _answer(self, read: ReadFile, looked: Looked, digest: str) -> dict[str, Any]:
        about, grids = self.network.about, looked.grids
        drawn = None if grids is None else await asyncio.to_thread(shown_maps, grids, read)
        rows, columns = read.original_size
        return {
            "schema": SCHEMA,
            "research_use": RESEARCH_USE,
            "model": {name: about[name] for name in ("name", "weights_sha256")},
            "image": {"width": columns, "height": rows, "format": read.kind, "sha256": digest},
            "calibrated": about["calibrated"],
            "findings": ranked(looked.scores, about["findings"], drawn),
            "map_kind": None if drawn is None else about["map_kind"],
            "picture": None if read.preview is None else png_uri(read.preview),
        }
