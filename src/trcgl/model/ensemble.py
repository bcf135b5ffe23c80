"""One model, or several models with the same findings whose scores are averaged."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from trcgl.core import storage
from trcgl.core.errors import CheckpointError
from trcgl.core.folder_kind import ENSEMBLE, kind_of
from trcgl.imaging.file_process import Shape
from trcgl.model.combination import Combination, EnsembleFolder, pooled, read_ensemble
from trcgl.model.folder import LoadedModel, Scores, load_model, model_folder
from trcgl.model.onnx_model import OnnxModel, over_onnx
from trcgl.model.views import FLIP, Square, seen_as


@dataclass(frozen=True)
class Ensemble:
    """One or more models with the same findings, whose scores are averaged; the first decides the order of findings.

    `combination` is that of an ensemble folder. Without it, every model has the same weight.
    """

    members: tuple[LoadedModel, ...]
    combination: Combination | None = None

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
        """Finding to the threshold of the ensemble folder, or else the mean of the members' thresholds.

        None if a member has no thresholds.
        """
        if self.combination is not None:
            return dict(self.combination.thresholds)
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
        return all(member.knows_mirrored for member in self.members)

    @property
    def accept(self) -> frozenset[str]:
        """Reasons of `core.errors.REASONS` for which every member was trained on such files."""
        return frozenset.intersection(*(member.accept for member in self.members))

    @property
    def of_phantoms(self) -> bool:
        """Whether a member was trained on phantoms."""
        return any(member.of_phantoms for member in self.members)

    @property
    def fuses(self) -> bool:
        """Whether the calibration holds for studies, whose images are fused."""
        return self.combination is not None and self.combination.fusion.name != "none"

    def score(
        self, pictures: Mapping[Shape, UInt8[np.ndarray, "batch _ _"]], *, tta: bool = False, batch_size: int = 64
    ) -> Scores:
        """Average the calibrated scores of the members, float32; of an ensemble folder, over its copies as well.

        Fuse the scores of studies, and then apply `calibrated`.

        Args:
            pictures: the same radiographs in each of `shapes`.
            tta: also score the mirror image of each radiograph; not for an ensemble folder, which stores its copies.
            batch_size: images per call of a network.

        Raises:
            CheckpointError: a score is not finite.
        """
        views = (FLIP,) if tta else () if self.combination is None else self.combination.tta
        each = [
            scores_of(member, member.resized(pictures[member.shape]), self.findings, views, batch_size)
            for member in self.members
        ]
        return pooled(each, None if self.combination is None else self.combination.weights)

    def calibrated(self, scores: Scores) -> Scores:
        """Calibrate the means of `score` as the ensemble folder says; else they stay as they are."""
        return scores if self.combination is None else self.combination.calibrated(scores)


def scores_of(
    model: LoadedModel, images: Square, findings: Sequence[str], views: Sequence[str], batch_size: int = 64
) -> Scores:
    """Calibrated scores of a model in the order of `findings`: the mean (float64) over the images and their copies."""
    order = [model.space.index(finding) for finding in findings]
    versions = (images, *(seen_as(images, view) for view in views))
    scores = [model.score(version, batch_size=batch_size)[:, order] for version in versions]
    return np.stack(scores).mean(axis=0, dtype=np.float64)


def load_ensemble(folders: Sequence[Path], *, device: str = "cpu", threads: int = 1) -> Ensemble:
    """Open run or model folders, or one ensemble folder.

    On the CPU, ONNX Runtime (`threads` per call) scores an exported folder if installed.

    Raises:
        CheckpointError: a folder is missing or damaged, two models have different findings, or an ensemble folder is
            given together with others.
    """
    combination = None
    if kind_of(folders[0]) is ENSEMBLE and len(folders) == 1:
        ensemble = read_ensemble(folders[0])
        folders, combination = [member.folder for member in ensemble.members], ensemble.combination
        members = _members_of(ensemble, device)
    else:
        if ensembles := [folder for folder in folders if kind_of(folder) is ENSEMBLE]:
            raise CheckpointError(f"{ensembles[0]} is an ensemble already. Give it alone, or give its runs.")
        members = [load_model(folder, device=device) for folder in folders]
    require_same_findings(folders, members)
    if device == "cpu":
        pairs = zip(folders, members, strict=True)
        members = [over_onnx(member, model_folder(folder), threads) for folder, member in pairs]
    return Ensemble(tuple(members), combination)


def require_same_findings(folders: Sequence[Path], members: Sequence[LoadedModel]) -> None:
    """Refuse models that differ in their findings; their order may differ."""
    for folder, member in zip(folders, members, strict=True):
        if different := sorted({*members[0].space.findings} ^ {*member.space.findings}):
            raise CheckpointError(
                f"{folder} and {folders[0]} cannot be averaged: only one of them has {', '.join(different)}. Name runs "
                "of one label space."
            )


def _members_of(ensemble: EnsembleFolder, device: str) -> list[LoadedModel]:
    """The models of an ensemble folder, with the temperatures that they had when the ensemble was fitted."""
    members = []
    for member in ensemble.members:
        if not member.folder.is_dir():
            raise CheckpointError(
                f"{ensemble.folder} averages {member.folder}, which is gone. Put it back; to move an ensemble, export "
                "it first."
            )
        model = load_model(member.folder, device=device)
        if model.info["weights_sha256"] != member.weights_sha256:
            raise CheckpointError(
                f"{member.folder} was trained again after {ensemble.folder} was fitted. Evaluate the runs into another "
                f"folder: {ensemble.command}"
            )
        members.append(dataclasses.replace(model, temperature=member.temperature))
    return members
