"""The network of the server: a trained model behind the protocol `Network`."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from trcgl import __version__
from trcgl.core import machine
from trcgl.core.errors import CheckpointError
from trcgl.core.notice import RESEARCH_USE
from trcgl.model.ensemble import Ensemble, load_ensemble
from trcgl.model.ensemble_maps import common_kind, mean_maps
from trcgl.model.folder import LoadedModel, best_device
from trcgl.predict.overlay import heat_uri

SCHEMA = "trcgl.served-model/1"


@dataclass(frozen=True)
class TrainedNetwork:
    """A `Network` that scores as `trcgl predict` does."""

    models: Ensemble
    """One model or an ensemble, whose members need a radiograph in one shape."""

    @property
    def _model(self) -> LoadedModel:
        return self.models.members[0]

    def _all(self, values: Callable[[LoadedModel], str]) -> str:
        """The different values of the members, joined."""
        return " + ".join(dict.fromkeys(map(values, self.models.members)))

    @cached_property
    def about(self) -> dict[str, Any]:
        """See `Network`."""
        model, thresholds = self._model, self.models.thresholds or {}
        groups, fitted = model.space.groups, self.models.combination
        return {
            "schema": SCHEMA,
            "research_use": RESEARCH_USE,
            "trcgl": __version__,
            "name": self._all(lambda member: member.info["recipe"]["name"]),
            "weights_sha256": self.models.weights_sha256,
            "image_size": max(member.image_size for member in self.models.members),
            "stored_size": model.shape[0],
            "fit": model.fit,
            "head": self._all(lambda member: member.info["recipe"]["model"]["head"]),
            "calibrated": bool(thresholds),
            "temperature": model.temperature if fitted is None else fitted.temperature,
            "map_kind": common_kind(self.models.members),
            "license": self._all(lambda member: member.info["license"]),
            "phantom": self.models.of_phantoms,
            "ensemble": None if fitted is None else fitted.summary,
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
        """See `Network`; each radiograph is a study of its own."""
        return self.models.calibrated(self.means(images))

    def means(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings"]:
        """Mean scores of the members and copies, before studies are fused and calibrated."""
        return self.models.score({self.models.shapes[0]: images}, batch_size=len(images))

    def maps(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings rows columns"]:
        """See `Network`; of an ensemble, the mean over the members."""
        return mean_maps(self.models, images, self.about["map_kind"])


def open_network(run: Path) -> TrainedNetwork:
    """Open a run, model or ensemble folder and run the network once, because the first call is the slowest.

    Unless OMP_NUM_THREADS is set, the network uses half of the CPUs from now on: its threads wait for each other at
    every layer, so one thread that competes with a decoder for a CPU delays all.

    Raises:
        CheckpointError: a folder is missing or damaged, or the runs of an ensemble need images of different shapes.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, machine.cpus() // 2))
    models = load_ensemble([run], device=best_device(), threads=torch.get_num_threads())
    if len(models.shapes) > 1:
        shapes = " and ".join(f"{side} pixels ({fit})" for side, fit in models.shapes)
        raise CheckpointError(
            f"{run}: its runs were trained on images of {shapes}, and serve reads a radiograph in one shape. Train the "
            "runs on one dataset; `trcgl predict` scores files with such an ensemble."
        )
    network = TrainedNetwork(models)
    side = network.about["stored_size"]
    network.scores(np.zeros((1, side, side), np.uint8))
    heat_uri(np.zeros((1, 1), np.float32))
    return network
