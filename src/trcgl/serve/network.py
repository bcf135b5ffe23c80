"""What the interface needs of a model. Nothing here imports torch: the routes do not care what computes the scores."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8


@runtime_checkable
class Network(Protocol):
    """A model, ready to serve. Its calls are made from one thread at a time."""

    @property
    def about(self) -> dict[str, Any]:
        """GET /v1/model but for `limits` and `samples`; findings in the order of the scores."""

    def scores(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings"]:
        """Calibrated scores, in one call of the network.

        Args:
            images: squares of `stored_size` pixels.

        Raises:
            CheckpointError: a score is not finite.
        """

    def maps(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings rows columns"]:
        """Where the network looked for each finding, from 0 to 1 on the grid of its feature map."""
