"""The ensemble folder: how the scores of several models become one score, as `trcgl evaluate` has fitted it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from trcgl.core import storage
from trcgl.core.errors import CheckpointError, DataError
from trcgl.core.folder_kind import ENSEMBLE, expect
from trcgl.core.notice import RESEARCH_USE
from trcgl.dataset.labels import LabelSpace
from trcgl.model.fusion import Fusion

SCHEMA = "trcgl.ensemble/1"
FILE = ENSEMBLE.marker
_HIGHEST = 1 - 2.0**-24
"""The largest probability below 1 in float32."""


@dataclass(frozen=True)
class Combination:
    """From the scores of members and copies to the calibrated score of an image or a study.

    The calibrated probabilities of the members are averaged with `weights`, over the radiograph and its copies `tta`;
    the images of a study are fused; and `temperature` calibrates the result, sigmoid(logit(p) / temperature), because
    means of probabilities are less extreme (Rahaman and Thiery 2021). `thresholds` by finding hold for this score.
    """

    weights: tuple[float, ...]
    tta: tuple[str, ...] = ()
    fusion: Fusion = field(default_factory=Fusion)
    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, Any]:
        """Weights, copies, fusion and temperature, as plain JSON values."""
        return {
            "weights": list(self.weights),
            "tta": list(self.tta),
            "fusion": self.fusion.name,
            "temperature": self.temperature,
        }

    def calibrated(self, scores: Float[np.ndarray, "rows findings"]) -> Float[np.ndarray, "rows findings"]:
        """Calibrated probabilities, float32; NaN where there is no score."""
        return expit(log_odds(scores) / np.float32(self.temperature))


def pooled(
    scores: Sequence[Float[np.ndarray, "rows findings"]], weights: Sequence[float] | None = None
) -> Float[np.ndarray, "rows findings"]:
    """The weighted mean of the members' scores, float32; equal weights if None.

    Raises:
        CheckpointError: a score is not finite.
    """
    mean = np.average(np.stack(scores), axis=0, weights=weights).astype(np.float32)
    if not np.isfinite(mean).all():
        raise CheckpointError("the model gives scores that are not finite. Train it again.")
    return mean


def log_odds(scores: Float[np.ndarray, "rows findings"]) -> Float[np.ndarray, "rows findings"]:
    """log(p / (1 - p)) of probabilities, float32 and finite."""
    p = np.clip(scores.astype(np.float64), np.finfo(np.float32).tiny, _HIGHEST)
    return np.log(p / (1 - p)).astype(np.float32)


@dataclass(frozen=True)
class Member:
    """One model of an ensemble folder."""

    folder: Path
    """Run folder or model folder."""
    name: str
    """Name of the run folder."""
    weights_sha256: str
    temperature: float
    """Temperature of the model's own calibration, on val."""


@dataclass(frozen=True)
class EnsembleFolder:
    """The content of `ensemble.json`.

    Its `info` has `made`, the settings of the command: `runs` with their weights, `weights`, `tta` and `fusion`; an
    exported ensemble has the means of its evaluations in `evaluation`.
    """

    folder: Path
    members: tuple[Member, ...]
    space: LabelSpace
    combination: Combination
    info: dict[str, Any]

    @property
    def summary(self) -> dict[str, Any]:
        """How scores are combined, for an evaluation: the settings of the command, and what was fitted on val."""
        fitted = self.combination
        learned = fitted.fusion.learned
        return {
            **self.info["made"],
            "temperature": fitted.temperature,
            "learned": None if learned is None else dict(learned),
        }

    @property
    def command(self) -> str:
        """The command that makes this ensemble."""
        made = self.info["made"]
        runs = [run["name"] for run in made["runs"]]
        parts = ["trcgl evaluate", *runs, "--out", self.folder.resolve().name]
        parts += ["--weights", made["weights"]] if made["weights"] != "equal" else []
        parts += ["--fusion", made["fusion"]] if made["fusion"] != "none" else []
        return " ".join([*parts, *(["--tta", *made["tta"]] if made["tta"] else [])])


def write_ensemble(ensemble: EnsembleFolder) -> None:
    """Write `ensemble.json`."""
    fitted, folder = ensemble.combination, ensemble.folder
    storage.write_json(
        folder / FILE,
        {
            "schema": SCHEMA,
            "made": ensemble.info["made"],
            "members": [
                {
                    "path": Path(os.path.relpath(member.folder.resolve(), folder.resolve())).as_posix(),
                    "name": member.name,
                    "weights_sha256": member.weights_sha256,
                    "temperature": member.temperature,
                    "weight": weight,
                }
                for member, weight in zip(ensemble.members, fitted.weights, strict=True)
            ],
            "label_space": ensemble.space.to_dict(),
            "tta": list(fitted.tta),
            "fusion": {
                "name": fitted.fusion.name,
                "learned": None if fitted.fusion.learned is None else dict(fitted.fusion.learned),
            },
            "temperature": fitted.temperature,
            "thresholds": dict(fitted.thresholds),
            **{name: value for name, value in ensemble.info.items() if name == "evaluation"},
            "research_use": RESEARCH_USE,
        },
    )


def read_ensemble(folder: Path) -> EnsembleFolder:
    """Read `ensemble.json`; the models are not opened.

    Raises:
        CheckpointError: the folder is no ensemble, or its file is damaged.
    """
    folder = Path(folder)
    expect(folder, ENSEMBLE, error=CheckpointError)
    path = folder / FILE
    try:
        info = storage.read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    found = info.get("schema") if isinstance(info, dict) else None
    if found != SCHEMA:
        raise CheckpointError(f"{path}: schema {found!r}, expected {SCHEMA!r}. Evaluate the runs with this version.")
    try:
        members = tuple(
            Member(
                Path(os.path.normpath(folder.resolve() / member["path"])),
                member["name"],
                member["weights_sha256"],
                member["temperature"],
            )
            for member in info["members"]
        )
        space = LabelSpace.from_dict(info["label_space"])
        combination = Combination(
            weights=tuple(member["weight"] for member in info["members"]),
            tta=tuple(info["tta"]),
            fusion=Fusion(info["fusion"]["name"], info["fusion"]["learned"]),
            temperature=info["temperature"],
            thresholds=info["thresholds"],
        )
    except (KeyError, TypeError, DataError) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}). Copy it again, or evaluate the runs again.") from error
    if missing := sorted(set(space.findings) ^ set(combination.thresholds)):
        raise CheckpointError(f"{path}: {missing[0]} has no threshold or is no finding. Evaluate the runs again.")
    return EnsembleFolder(folder, members, space, combination, info)
