"""Scoring of radiographs in batches: requests that arrive together are scored together."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from trcgl.serve.metrics import Metrics
from trcgl.serve.network import Network

WAIT_SECONDS = 0.004
"""How long a radiograph waits for others that are being decoded."""


@dataclass(frozen=True)
class Scored:
    """Scores and maps of one radiograph.

    Args:
        scores: Score of each finding.
        maps: Map of each finding, if maps were requested.
    """

    scores: Float[np.ndarray, " findings"]
    maps: Float[np.ndarray, "findings rows columns"] | None


@dataclass(frozen=True)
class _Item:
    picture: UInt8[np.ndarray, "side side"]
    maps: bool
    answer: "asyncio.Future[Scored]"


class Batcher:
    """Runs the network in one thread for all requests.

    Args:
        network: The model.
        largest: Largest number of radiographs in one call.
        metrics: Counts the batch sizes.
    """

    def __init__(self, network: Network, largest: int, metrics: Metrics) -> None:
        self._network, self._largest, self._metrics = network, largest, metrics
        self._queue: asyncio.Queue[_Item] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "network")
        self.coming = 0
        """Number of radiographs that are being decoded; the batcher waits only if there are any."""

    async def score(self, picture: UInt8[np.ndarray, "side side"], *, maps: bool) -> Scored:
        """Score one radiograph, and compute its maps if requested.

        Raises:
            CheckpointError: A score is not finite.
        """
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
            wanting = [item for item in batch if item.maps]
            for item, row in zip(batch, scores, strict=True):
                if not item.maps and not item.answer.done():
                    item.answer.set_result(Scored(row, None))
            if not wanting:
                return
            rows = [row for item, row in zip(batch, scores, strict=True) if item.maps]
            for item, row, maps in zip(wanting, rows, await self._call(self._network.maps, wanting), strict=True):
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
