"""The model as the interface uses it; torch-free, so that tests can serve any function."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8


@runtime_checkable
class Network(Protocol):
    """A model that is ready to serve. It is called from one thread at a time."""

    @property
    def about(self) -> dict[str, Any]:
        """The answer of GET /v1/model without `limits` and `samples`; findings in the order of the scores."""

    def scores(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings"]:
        """Calibrated scores, in one call of the network.

        Args:
            images: Square images of the side that `stored_size` gives.

        Raises:
            CheckpointError: A score is not finite.
        """

    def maps(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings rows columns"]:
        """Where the network looked for each finding, from 0 to 1 on the grid of its feature map."""
