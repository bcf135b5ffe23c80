"""The model behind the interface: which one it is, its scores for a batch, and its maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from trcgl import __version__
from trcgl.core.notice import RESEARCH_USE
from trcgl.data.file_process import ReadFile, Shape
from trcgl.model.folder import LoadedModel
from trcgl.model.maps import best_kind, maps
from trcgl.use.ensemble import Ensemble, load_ensemble
from trcgl.use.overlay import heat_uri, small_map
from trcgl.use.serve.samples import SAMPLES

MODEL_SCHEMA = "trcgl.served-model/1"
MAP_SIDE = 224
"""Pixels of the longer side of a map: the grid behind it is coarser still."""


@dataclass(frozen=True)
class Engine:
    """A model, ready to serve. Its calls are made from one thread at a time.

    Args:
        models: exactly one model, scored as `trcgl predict` scores it.
    """

    models: Ensemble

    @property
    def model(self) -> LoadedModel:
        """The model."""
        return self.models.members[0]

    @property
    def shape(self) -> Shape:
        """The picture that the network takes."""
        return self.models.shapes[0]

    @property
    def identity(self) -> dict[str, str]:
        """Name of the recipe and digest of the weights."""
        return {"name": self.model.info["recipe"]["name"], "weights_sha256": self.models.weights_sha256}

    def scores(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings"]:
        """Calibrated scores, in one call of the network.

        Raises:
            CheckpointError: a score is not finite.
        """
        return self.models.score({self.shape: images}, batch_size=len(images))

    def maps(self, images: UInt8[np.ndarray, "batch side side"]) -> Float[np.ndarray, "batch findings rows columns"]:
        """Where the network looked for each finding."""
        return maps(self.model, images, best_kind(self.model))

    def drawn(self, grids: Float[np.ndarray, "findings rows columns"], read: ReadFile) -> list[str]:
        """Each map as a picture in the proportions of the radiograph, as a data URI."""
        size, placement, side = read.original_size, read.placements[0], self.model.image_size
        return [heat_uri(small_map(grid, size, placement, side, MAP_SIDE)) for grid in grids]

    def ranked(self, scores: Float[np.ndarray, " findings"], drawn: Sequence[str] | None) -> list[dict[str, Any]]:
        """The findings, the highest score first."""
        thresholds, groups = self.models.thresholds, self.model.space.groups
        rows = []
        for place in np.argsort(-scores, kind="stable").tolist():
            name = self.models.findings[place]
            threshold = thresholds[name] if thresholds else None
            rows.append(
                {
                    "name": name,
                    "group": groups.get(name),
                    "score": float(scores[place]),
                    "threshold": threshold,
                    "called": None if threshold is None else bool(scores[place] >= threshold),
                    "map": drawn[place] if drawn else None,
                }
            )
        return rows

    def card(self, limits: dict[str, float]) -> dict[str, Any]:
        """Answer of GET /v1/model."""
        model, thresholds = self.model, self.models.thresholds
        findings = [
            {"name": one, "group": model.space.groups.get(one), "threshold": thresholds[one] if thresholds else None}
            for one in self.models.findings
        ]
        samples = [{"id": one, "title": each.title, "labels": list(each.findings)} for one, each in SAMPLES.items()]
        return {
            "schema": MODEL_SCHEMA,
            "research_use": RESEARCH_USE,
            "trcgl": __version__,
            **self.identity,
            "image_size": model.image_size,
            "fit": model.fit,
            "head": model.info["recipe"]["model"]["head"],
            "calibrated": thresholds is not None,
            "temperature": model.temperature,
            "map_kind": best_kind(model),
            "license": model.info["license"],
            "phantom": model.space.name == "phantom",
            "findings": findings,
            "limits": limits,
            "samples": samples,
        }


def open_engine(run: Path) -> Engine:
    """Open a run or model folder, and let its network run once: the first call is the slowest.

    Raises:
        CheckpointError: the model folder is missing or damaged.
    """
    engine = Engine(load_ensemble([run], device="cuda" if torch.cuda.is_available() else "cpu"))
    engine.scores(np.zeros((1, engine.model.image_size, engine.model.image_size), np.uint8))
    return engine
