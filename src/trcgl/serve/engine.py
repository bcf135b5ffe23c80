"""The network of the server: a trained model behind the protocol `Network`."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from trcgl import __version__
from trcgl.core import machine
from trcgl.core.notice import RESEARCH_USE
from trcgl.model.ensemble import Ensemble, load_ensemble
from trcgl.model.folder import LoadedModel, best_device
from trcgl.model.maps import best_kind, maps
from trcgl.predict.overlay import heat_uri

SCHEMA = "trcgl.served-model/1"


@dataclass(frozen=True)
class TrainedNetwork:
    """A `Network` that scores as `trcgl predict` does."""

    models: Ensemble
    """Of exactly one model."""

    @property
    def _model(self) -> LoadedModel:
        return self.models.members[0]

    @cached_property
    def about(self) -> dict[str, Any]:
        """See `Network`."""
        model, thresholds = self._model, self.models.thresholds or {}
        groups = model.space.groups
        return {
            "schema": SCHEMA,
            "research_use": RESEARCH_USE,
            "trcgl": __version__,
            "name": model.info["recipe"]["name"],
            "weights_sha256": self.models.weights_sha256,
            "image_size": model.image_size,
            "stored_size": model.shape[0],
            "fit": model.fit,
            "head": model.info["recipe"]["model"]["head"],
            "calibrated": bool(thresholds),
            "temperature": model.temperature,
            "map_kind": best_kind(model),
            "license": model.info["license"],
            "phantom": self.models.of_phantoms,
            "findings": [
                {"name": finding, "group": groups.get(finding), "threshold": thresholds.get(finding)}
                for finding in self.models.findings
            ],
        }

    @property
    def accept(self) -> frozenset[str]:
        """See `Network`."""
        return self.models.accept

    def scores(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings"]:
        """See `Network`."""
        return self.models.score({self.models.shapes[0]: images}, batch_size=len(images))

    def maps(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings rows columns"]:
        """See `Network`."""
        return maps(self._model, self._model.resized(images), self.about["map_kind"])


def open_network(run: Path) -> TrainedNetwork:
    """Open a run or model folder and run the network once, because the first call is the slowest.

    Unless OMP_NUM_THREADS is set, the network uses half of the CPUs from now on: its threads wait for each other at
    every layer, so one thread that competes with a decoder for a CPU delays all.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, machine.cpus() // 2))
    network = TrainedNetwork(load_ensemble([run], device=best_device(), threads=torch.get_num_threads()))
    side = network.about["stored_size"]
    network.scores(np.zeros((1, side, side), np.uint8))
    heat_uri(np.zeros((1, 1), np.float32))
    return network
