"""`trcgl export ENSEMBLE --out DIR`: an ensemble folder that needs none of its runs.

The folder holds an exported model per member (`members/1`, `members/2`, ...), `ensemble.json`, and the card of the
ensemble, `README.md`. It is written in one step.
"""

import dataclasses
from pathlib import Path
from typing import Any

from trcgl.core import storage
from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.folder_kind import ENSEMBLE, kind_of
from trcgl.core.lock import LOCK, locked_by
from trcgl.core.notice import RESEARCH_USE
from trcgl.export.cards import ensemble_card, evaluations_of
from trcgl.export.export import SCHEMA, export, files, whole
from trcgl.export.onnx_graph import require_onnx
from trcgl.model.combination import FILE, EnsembleFolder, read_ensemble, write_ensemble


def export_ensemble(source: Path, out: Path, *, onnx: bool = True) -> dict[str, Any]:
    """Write a self-contained ensemble folder.

    Args:
        source: an ensemble folder of `trcgl evaluate RUN RUN --out`.
        out: folder to write; new or empty, or a finished export of the same ensemble, which is left unchanged.
        onnx: also write the ONNX file of each member.

    Returns:
        Schema `trcgl.export/1`, as `export` returns it; the parity of an output is the largest of the members.

    Raises:
        CheckpointError: a model is missing or damaged, was trained again, or cannot be written as ONNX.
        RecipeError: `out` holds something else, or a package for ONNX is missing.
        DataError: the disk is full, or the folder cannot be written to.
    """
    if onnx:
        require_onnx()
    ensemble, out = read_ensemble(Path(source)), Path(out)
    with locked_by(out.absolute().with_name(f".{out.absolute().name}{LOCK}"), out):
        if not _holds(out, ensemble, onnx):
            with whole(out) as aside:
                _write(aside, ensemble, onnx)
    exported = read_ensemble(out)
    names = [
        *(f"{_place(number)}/{name}" for number, _ in enumerate(exported.members, start=1) for name in files(onnx)),
        FILE,
        "README.md",
    ]
    return {
        "schema": SCHEMA,
        "folder": str(out),
        "files": names,
        "weights_sha256": storage.digest([member.weights_sha256 for member in exported.members]),
        "calibrated": True,
        "evaluation": exported.info["evaluation"],
        "card_updated": False,
        "parity": _parity(exported) if onnx else None,
        "research_use": RESEARCH_USE,
    }


def _place(number: int) -> str:
    return f"members/{number}"


def _write(aside: Path, ensemble: EnsembleFolder, onnx: bool) -> None:
    members, described = [], []
    for number, member in enumerate(ensemble.members, start=1):
        folder = aside / _place(number)
        exported = export(member.folder, folder, onnx=onnx)
        if exported["weights_sha256"] != member.weights_sha256:
            raise CheckpointError(
                f"{member.folder} was trained again after {ensemble.folder} was fitted. Evaluate the runs into another "
                f"folder: {ensemble.command}"
            )
        members.append(dataclasses.replace(member, folder=folder))
        info = storage.read_json(folder / "model.json")
        weight = ensemble.combination.weights[number - 1]
        described.append({"name": member.name, "folder": _place(number), "weight": weight, "license": info["license"]})
    evaluations = evaluations_of(ensemble.folder)
    short = {
        name: {key: page[key] for key in ("images", "studies", "patients", "overall") if key in page}
        for name, page in evaluations.items()
    }
    info = {"made": ensemble.info["made"], "evaluation": short}
    card = ensemble_card(described, ensemble.combination, evaluations, ensemble.space)
    storage.write_text(aside / "README.md", card)
    write_ensemble(dataclasses.replace(ensemble, folder=aside, members=tuple(members), info=info))


def _holds(out: Path, ensemble: EnsembleFolder, onnx: bool) -> bool:
    """Whether `out` is a finished export of this ensemble.

    Raises:
        RecipeError: it holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if kind_of(out) is ENSEMBLE:
        stored = read_ensemble(out)
        weights = [[member.weights_sha256 for member in each.members] for each in (stored, ensemble)]
        same = weights[0] == weights[1] and stored.combination == ensemble.combination
        if same and "evaluation" in stored.info and (out / _place(1) / "model.onnx").is_file() == onnx:
            return True
    raise RecipeError(
        f"{out} is not empty and holds no export of this ensemble. Choose another --out, or remove it yourself if it "
        "is no longer needed."
    )


def _parity(ensemble: EnsembleFolder) -> dict[str, Any]:
    parities = [storage.read_json(member.folder / "model.json")["onnx"]["parity"] for member in ensemble.members]
    largest: dict[str, float] = {}
    for parity in parities:
        for name, value in parity["largest_difference"].items():
            largest[name] = max(value, largest.get(name, 0.0))
    return {**parities[0], "largest_difference": largest}
