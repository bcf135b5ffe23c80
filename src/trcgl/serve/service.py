"""From the bytes of an upload to the answer."""

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float

from trcgl.core.errors import DataError, NotAccepted, TooLarge, UnreadableImage
from trcgl.core.html import png_uri
from trcgl.core.notice import RESEARCH_USE
from trcgl.imaging.file_pool import FilePool
from trcgl.imaging.file_process import ReadFile, Shape
from trcgl.imaging.isolated import Late, Lost
from trcgl.imaging.limits import Limits
from trcgl.imaging.radiograph import kind_of
from trcgl.serve.batching import Batcher, Network, Scored
from trcgl.serve.body import Uploads
from trcgl.serve.metrics import Metrics
from trcgl.serve.options import MIB, ServeOptions
from trcgl.serve.problem import Problem
from trcgl.serve.samples import SAMPLES

SCHEMA = "trcgl.prediction/1"
PREVIEW_SIDE = 1024
"""Pixels of the longer side of the picture that goes with maps."""
MAP_SIDE = 224
"""Pixels of the longer side of a map; the grid behind it is coarser."""
PATIENCE = 3.0
"""An upload is given up after this multiple of the longest decoding time."""
_NAME = "The file"


class Service:
    """Scores uploads; files are decoded in separate processes, which return pixels and a few numbers."""

    def __init__(self, network: Network, options: ServeOptions) -> None:
        self.network, self.options = network, options
        self.limits = Limits(bytes=options.max_mib * MIB, pixels=options.max_megapixels * 1_000_000)
        self.card = network.about | {
            "limits": {"bytes": self.limits.bytes, "pixels": self.limits.pixels, "seconds": options.seconds},
            "samples": [
                {"id": number, "title": sample.title, "labels": list(sample.findings)}
                for number, sample in SAMPLES.items()
            ],
        }
        self.uploads = Uploads(self.limits.bytes, options.upload_seconds)
        self.shape: Shape = (network.about["stored_size"], network.about["fit"])
        self.accept = network.accept.union(options.accept)
        self.decoders = FilePool(options.seconds, options.workers, ready=True)
        self.metrics = Metrics(lambda: self._waiting, lambda: self.decoders.running)
        self.batcher = Batcher(network, options.batch_size, self.metrics)
        self._waiting = 0

    async def predict(self, content: bytes, *, maps: bool) -> dict[str, Any]:
        """The answer of POST /v1/predict; with `maps`, it has the maps and the picture below them.

        Raises:
            Problem: The file is not a radiograph or too large, or the server is busy.
        """
        start = time.perf_counter()
        with self._turn():
            try:
                async with asyncio.timeout(PATIENCE * self.options.seconds):
                    read = await self._decoded(content, preview=PREVIEW_SIDE if maps else None)
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

    def read_content(self, content: bytes, name: str, *, preview: int | None) -> ReadFile:
        """Decode a file in the next idle process, with the limits of this server; see `FileProcess.read_content`."""
        with self.decoders.process() as process:
            return process.read_content(
                content,
                name,
                [self.shape],
                limits=self.limits,
                preview=preview,
                identifiers=self.options.identifiers,
                accept=self.accept,
            )

    async def _decoded(self, content: bytes, *, preview: int | None) -> ReadFile:
        """The radiograph, decoded in the next idle process."""
        if content and kind_of(content) is None:
            message = "The file is not a PNG, JPEG or DICOM file. Send a radiograph in one of these formats."
            raise Problem(415, "unsupported", message)

        self.batcher.coming += 1
        try:
            return await asyncio.wrap_future(
                self.decoders.threads.submit(self.read_content, content, _NAME, preview=preview)
            )
        except Late as error:
            self.metrics.restarts.inc()
            message = f"Decoding the file {error}: it is too large, or the machine is busy. Try again in a minute."
            raise Problem(504, "timeout", message) from error
        except Lost as error:
            self.metrics.restarts.inc()
            message = "The file crashed its decoder: it is damaged. Copy it again from the archive."
            raise Problem(422, "unreadable", message) from error
        except NotAccepted as error:
            message = str(error).replace(f"{_NAME}: ", f"{_NAME} is not scored: ", 1)
            raise Problem(422, "not_accepted", message) from error
        except UnreadableImage as error:
            message = str(error).replace(f"{_NAME}: ", f"{_NAME} cannot be read: ", 1)
            large = isinstance(error, TooLarge)
            raise Problem(413 if large else 422, "too_large" if large else "unreadable", message) from error
        except DataError as error:
            raise Problem(503, "busy", "No decoder can be started. Try again later.") from error
        finally:
            self.batcher.coming -= 1

    async def _answer(self, read: ReadFile, scored: Scored, digest: str) -> dict[str, Any]:
        about = self.network.about
        pictures = None if scored.maps is None else await asyncio.to_thread(_map_pictures, scored.maps, read)
        rows, columns = read.original_size
        return {
            "schema": SCHEMA,
            "research_use": RESEARCH_USE,
            "model": {name: about[name] for name in ("name", "weights_sha256")},
            "image": {"width": columns, "height": rows, "format": read.kind, "sha256": digest},
            "identifiers": read.identifiers,
            "calibrated": about["calibrated"],
            "findings": _ranked(scored.scores, about["findings"], pictures),
            "map_kind": None if pictures is None else about["map_kind"],
            "picture": None if read.preview is None else png_uri(read.preview),
        }


def _ranked(
    scores: Float[np.ndarray, " findings"], known: Sequence[dict[str, Any]], maps: Sequence[str] | None
) -> list[dict[str, Any]]:
    """The findings, the highest score first; scores and maps are in the order of `known`."""
    rows = []
    for place in np.argsort(-scores, kind="stable").tolist():
        threshold = known[place]["threshold"]
        # Compared in float32, as `trcgl predict` does.
        called = None if threshold is None else bool(scores[place] >= threshold)
        map_uri = maps[place] if maps else None
        rows.append({**known[place], "score": float(scores[place]), "called": called, "map": map_uri})
    return rows


def _map_pictures(maps: Float[np.ndarray, "findings rows columns"], read: ReadFile) -> list[str]:
    """Each map as a PNG data URI in the proportions of the radiograph."""
    from trcgl.predict.overlay import heat_uri, small_map

    side = len(read.pictures[0])
    return [heat_uri(small_map(grid, read.original_size, read.placements[0], side, MAP_SIDE)) for grid in maps]
