"""One model, or several models with the same findings whose scores are averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from trcgl.core import storage
from trcgl.core.errors import CheckpointError
from trcgl.imaging.file_process import Shape
from trcgl.model.folder import LoadedModel, Scores, load_model, model_folder
from trcgl.model.onnx_model import OnnxModel, over_onnx


@dataclass(frozen=True)
class Ensemble:
    """One or more models with the same findings, whose scores are averaged; the first decides the order of findings."""

    members: tuple[LoadedModel, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """Findings in the order of the scores."""
        return self.members[0].space.findings

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes in which `score` needs each radiograph: those of the training datasets of the members."""
        return tuple(dict.fromkeys(member.shape for member in self.members))

    @property
    def thresholds(self) -> dict[str, float] | None:
        """Finding to the mean of the members' thresholds; None if a member has no thresholds."""
        fitted = [member.thresholds for member in self.members if member.thresholds is not None]
        if len(fitted) < len(self.members):
            return None
        return {finding: float(np.mean([limits[finding] for limits in fitted])) for finding in self.findings}

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights; of several models, the digest of their digests."""
        digests = [member.info["weights_sha256"] for member in self.members]
        return digests[0] if len(digests) == 1 else storage.digest(digests)

    @property
    def identity(self) -> list[dict[str, Any]]:
        """Recipe, digest of the weights, engine, temperature and thresholds of each member."""
        return [
            {
                "name": member.info["recipe"]["name"],
                "weights_sha256": member.info["weights_sha256"],
                "engine": "ONNX Runtime" if isinstance(member, OnnxModel) else "PyTorch",
                "temperature": member.temperature,
                "thresholds": member.thresholds,
            }
            for member in self.members
        ]

    @property
    def knows_mirrored(self) -> bool:
        """Whether every member was trained on radiographs that were flipped left to right."""
        return all(member.info["recipe"].get("augment", {}).get("horizontal_flip", False) for member in self.members)

    @property
    def accept(self) -> frozenset[str]:
        """Reasons of `core.errors.REASONS` for which every member was trained on such files."""
        return frozenset.intersection(*(member.accept for member in self.members))

    @property
    def of_phantoms(self) -> bool:
        """Whether a member was trained on phantoms."""
        return any(member.of_phantoms for member in self.members)

    def score(
        self, pictures: Mapping[Shape, UInt8[np.ndarray, "batch _ _"]], *, tta: bool = False, batch_size: int = 64
    ) -> Scores:
        """Average the calibrated scores of the members, float32; `tta` also scores the mirror image of each radiograph.

        `pictures` holds the same radiographs in each of `shapes`.

        Raises:
            CheckpointError: a score is not finite.
        """
        scores = []
        for member in self.members:
            images = member.resized(pictures[member.shape])
            order = [member.space.index(finding) for finding in self.findings]
            for version in (images, images[:, :, ::-1])[: 1 + tta]:
                scores.append(member.score(version, batch_size=batch_size)[:, order])
        score = np.stack(scores).mean(axis=0, dtype=np.float64).astype(np.float32)
        if not np.isfinite(score).all():
            raise CheckpointError("the model gives scores that are not finite. Train it again.")
        return score


def load_ensemble(folders: Sequence[Path], *, device: str = "cpu", threads: int = 1) -> Ensemble:
    """Open run or model folders. On the CPU, ONNX Runtime (`threads` per call) scores an exported folder if installed.

    Raises:
        CheckpointError: a folder is missing or damaged, or two models have different findings.
    """
    members = [load_model(folder, device=device) for folder in folders]
    for folder, member in zip(folders, members, strict=True):
        if different := sorted({*members[0].space.findings} ^ {*member.space.findings}):
            raise CheckpointError(
                f"{folder} and {folders[0]} cannot be averaged: only one of them has {', '.join(different)}. Name runs "
                "of one label space."
            )
    if device == "cpu":
        pairs = zip(folders, members, strict=True)
        members = [over_onnx(member, model_folder(folder), threads) for folder, member in pairs]
    return Ensemble(tuple(members))
