"""One model, or the mean of several over one label space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from trcgl.core import storage
from trcgl.core.errors import CheckpointError
from trcgl.imaging.file_process import Shape
from trcgl.model.folder import LoadedModel, load_model, model_folder
from trcgl.model.onnx_model import OnnxModel, over_onnx


@dataclass(frozen=True)
class Ensemble:
    """Models whose scores are averaged.

    Args:
        members: one or more, of the same findings; the first decides their order.
    """

    members: tuple[LoadedModel, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """In the order of the scores."""
        return self.members[0].space.findings

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The pictures that `score` needs of each radiograph."""
        return tuple(dict.fromkeys(member.shape for member in self.members))

    @property
    def thresholds(self) -> dict[str, float] | None:
        """Finding to the mean of the members' thresholds, or None where a member has none."""
        fitted = [one.thresholds for one in self.members if one.thresholds is not None]
        if len(fitted) < len(self.members):
            return None
        return {finding: float(np.mean([one[finding] for one in fitted])) for finding in self.findings}

    @property
    def weights_sha256(self) -> str:
        """Of the weights; of several models, the digest of their digests."""
        each = [one.info["weights_sha256"] for one in self.members]
        return each[0] if len(each) == 1 else storage.digest(each)

    @property
    def identity(self) -> list[dict[str, Any]]:
        """Recipe, digest of the weights, engine, temperature and thresholds of each member."""
        return [
            {
                "name": one.info["recipe"]["name"],
                "weights_sha256": one.info["weights_sha256"],
                "engine": "ONNX Runtime" if isinstance(one, OnnxModel) else "PyTorch",
                "temperature": one.temperature,
                "thresholds": one.thresholds,
            }
            for one in self.members
        ]

    @property
    def knows_mirrored(self) -> bool:
        """Whether every member was trained on radiographs that were flipped left to right."""
        return all(one.info["recipe"].get("augment", {}).get("horizontal_flip", False) for one in self.members)

    @property
    def of_phantoms(self) -> bool:
        """Whether a member was trained on phantoms."""
        return any(member.of_phantoms for member in self.members)

    def score(
        self,
        pictures: Mapping[Shape, UInt8[np.ndarray, "batch _ _"]],
        *,
        tta: bool = False,
        batch_size: int = 64,
    ) -> Float[np.ndarray, "batch findings"]:
        """The mean of the members' calibrated scores, float32.

        Args:
            pictures: the same radiographs in each of `shapes`.
            tta: average over each radiograph and its mirror image, too.
            batch_size: radiographs that a network sees at once.

        Raises:
            CheckpointError: a member gives a score that is not finite.
        """
        every = []
        for member in self.members:
            images = member.resized(pictures[member.shape])
            order = [member.space.index(finding) for finding in self.findings]
            for version in (images, images[:, :, ::-1])[: 1 + tta]:
                every.append(member.score(version, batch_size=batch_size)[:, order])
        score = np.stack(every).mean(axis=0, dtype=np.float64).astype(np.float32)
        if not np.isfinite(score).all():
            raise CheckpointError("the model gives scores that are not finite. Train it again.")
        return score


def load_ensemble(folders: Sequence[Path], *, device: str = "cpu", threads: int = 1) -> Ensemble:
    """Open run or model folders. On the CPU an exported folder is scored by ONNX Runtime where it is installed.

    Args:
        folders: one or more.
        device: where the networks run.
        threads: of ONNX Runtime for each call.

    Raises:
        CheckpointError: one is missing or damaged, or two have not the same findings.
    """
    members = tuple(_member(model_folder(one), device, threads) for one in folders)
    first = set(members[0].space.findings)
    for folder, member in zip(folders[1:], members[1:], strict=True):
        if different := sorted(first ^ set(member.space.findings)):
            raise CheckpointError(
                f"{folder} and {folders[0]} cannot be averaged: only one of them has {', '.join(different)}. Name runs "
                "of one label space."
            )
    return Ensemble(members)


def _member(folder: Path, device: str, threads: int) -> LoadedModel:
    model = load_model(folder, device=device)
    return over_onnx(model, folder, threads) if device == "cpu" else model
