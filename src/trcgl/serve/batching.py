"""Radiographs that come together pass the network together."""

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
class Looked:
    """What the network says about one radiograph.

    Args:
        scores: of each finding.
        grids: the map of each finding, where they were asked for.
    """

    scores: Float[np.ndarray, " findings"]
    grids: Float[np.ndarray, "findings rows columns"] | None


@dataclass(frozen=True)
class _Item:
    picture: UInt8[np.ndarray, "side side"]
    maps: bool
    answer: "asyncio.Future[Looked]"


class Batcher:
    """One network, in one thread, for all requests.

    Args:
        network: the model.
        largest: most radiographs in one call.
        metrics: learns the sizes of the batches.
    """

    def __init__(self, network: Network, largest: int, metrics: Metrics) -> None:
        self._network, self._largest, self._metrics = network, largest, metrics
        self._queue: asyncio.Queue[_Item] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "network")
        self.coming = 0
        """Radiographs that are being decoded: there is no point in waiting where there are none."""

    async def look(self, picture: UInt8[np.ndarray, "side side"], *, maps: bool) -> Looked:
        """Score one radiograph, and look for its maps if they are asked for.

        Raises:
            CheckpointError: a score is not finite.
        """
        answer: asyncio.Future[Looked] = asyncio.get_running_loop().create_future()
        await self._queue.put(_Item(picture, maps, answer))
        return await answer

    async def work(self) -> None:
        """Score what comes, until cancelled."""
        while True:
            batch = [await self._queue.get()]
            await self._gather(batch)
            batch = [one for one in batch if not one.answer.done()]  # whose client has not given up meanwhile
            if batch:
                await self._answer(batch)

    def close(self) -> None:
        """End the thread after what it does."""
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
            wanting = [one for one in batch if one.maps]
            for one, row in zip(batch, scores, strict=True):
                if not one.maps and not one.answer.done():
                    one.answer.set_result(Looked(row, None))
            if not wanting:
                return
            rows = [row for one, row in zip(batch, scores, strict=True) if one.maps]
            for one, row, grids in zip(wanting, rows, await self._call(self._network.maps, wanting), strict=True):
                if not one.answer.done():
                    one.answer.set_result(Looked(row, grids))
        except Exception as error:  # of whatever kind: each request answers for itself, and the next batch is scored
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)

    async def _call(
        self, function: Callable[[np.ndarray], np.ndarray], batch: list[_Item]
    ) -> Float[np.ndarray, "batch findings *grid"]:
        images = np.stack([one.picture for one in batch])
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, images)
