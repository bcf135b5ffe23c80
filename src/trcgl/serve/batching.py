"""Scoring of radiographs in batches: requests that arrive together are scored together."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from trcgl.serve.metrics import Metrics

WAIT_SECONDS = 0.004
"""How long a radiograph waits for others that are being decoded."""


@runtime_checkable
class Network(Protocol):
    """A model that is ready to serve. It is called from one thread at a time."""

    @property
    def about(self) -> dict[str, Any]:
        """The answer of GET /v1/model without `limits` and `samples`; findings in the order of the scores."""

    @property
    def accept(self) -> frozenset[str]:
        """Reasons of `core.errors.REASONS` for which files are not refused."""

    def scores(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings"]:
        """Calibrated scores of images of the side `stored_size`, in one call of the network.

        Raises:
            CheckpointError: A score is not finite.
        """

    def maps(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings rows columns"]:
        """Where the network looked for each finding, from 0 to 1 on the grid of its feature map."""


@dataclass(frozen=True)
class Scored:
    """Scores of one radiograph, and its maps if they were requested."""

    scores: Float[np.ndarray, " findings"]
    maps: Float[np.ndarray, "findings rows columns"] | None


@dataclass(frozen=True)
class _Item:
    picture: UInt8[np.ndarray, "side side"]
    maps: bool
    answer: "asyncio.Future[Scored]"


class Batcher:
    """Runs the network in one thread for all requests, on at most `largest` radiographs per call."""

    def __init__(self, network: Network, largest: int, metrics: Metrics) -> None:
        self._network, self._largest, self._metrics = network, largest, metrics
        self._queue: asyncio.Queue[_Item] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "network")
        self.coming = 0
        """Number of radiographs that are being decoded; the batcher waits only if there are any."""

    async def score(self, picture: UInt8[np.ndarray, "side side"], *, maps: bool) -> Scored:
        """Score one radiograph, and compute its maps if requested."""
        answer: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        await self._queue.put(_Item(picture, maps, answer))
        return await answer

    async def work(self) -> None:
        """Score incoming radiographs until cancelled."""
        while True:
            batch = [await self._queue.get()]
            await self._gather(batch)
            batch = [item for item in batch if not item.answer.done()]  # the client of a done item gave up
            if batch:
                await self._answer(batch)

    def call(
        self, function: Callable[[np.ndarray], np.ndarray], images: UInt8[np.ndarray, "batch side side"]
    ) -> Float[np.ndarray, "batch findings *grid"]:
        """Run a function of the network from another thread, in turns with the batches."""
        parts = range(0, len(images), self._largest)
        return np.concatenate([self._thread.submit(function, images[at : at + self._largest]).result() for at in parts])

    def close(self) -> None:
        """End the thread after its current call."""
        self._thread.shutdown(cancel_futures=True)

    async def _gather(self, batch: list[_Item]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + WAIT_SECONDS
        while len(batch) < self._largest:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
            elif self.coming and (left := end - loop.time()) > 0:
                try:
                    batch.append(await asyncio.wait_for(self._queue.get(), left))
                except TimeoutError:
                    return
            else:
                return

    async def _answer(self, batch: list[_Item]) -> None:
        self._metrics.batches.observe(len(batch))
        try:
            scores = await self._call(self._network.scores, batch)
            for item, row in zip(batch, scores, strict=True):
                if not item.maps and not item.answer.done():
                    item.answer.set_result(Scored(row, None))
            if wanting := [(item, row) for item, row in zip(batch, scores, strict=True) if item.maps]:
                grids = await self._call(self._network.maps, [item for item, _ in wanting])
                for (item, row), maps in zip(wanting, grids, strict=True):
                    if not item.answer.done():
                        item.answer.set_result(Scored(row, maps))
        except Exception as error:  # of any kind: each request gets its own answer, and the next batch is scored
            for item in batch:
                if not item.answer.done():
                    item.answer.set_exception(error)

    async def _call(
        self, function: Callable[[np.ndarray], np.ndarray], batch: list[_Item]
    ) -> Float[np.ndarray, "batch findings *grid"]:
        images = np.stack([item.picture for item in batch])
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, images)
