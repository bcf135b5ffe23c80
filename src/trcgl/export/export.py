"""`trcgl export RUN --out DIR`: a model folder that needs neither the run nor, with its ONNX file, PyTorch.

    trcgl export run --out model

The folder holds `model.safetensors`, `model.json`, `model.onnx`, `score.py` (needs NumPy and onnxruntime only),
`README.md` (the model card) and `DATA.md` (the data card). It is written in one step.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trcgl.core import storage
from trcgl.core.errors import CheckpointError, DataError, RecipeError
from trcgl.core.lock import LOCK, locked_by
from trcgl.core.write_errors import writing
from trcgl.export.cards import Origin, data_card, model_card, origin_of, score_script
from trcgl.export.onnx_graph import require_onnx, write_onnx
from trcgl.imaging.gray import PIXEL_RULE
from trcgl.model.folder import LoadedModel, load_model, model_folder

SCHEMA = "trcgl.export/1"
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_ALWAYS = ("model.safetensors", "model.json", "README.md", "DATA.md")
_WITH_ONNX = ("model.onnx", "score.py")


def export(source: Path, out: Path, *, onnx: bool = True) -> dict[str, Any]:
    """Write a self-contained model folder.

    Args:
        source: a run folder; or a model folder, whose card then has no data and metrics.
        out: folder to write; new, empty, or of the same model and files. Of the same model, only the model card and the
            evaluation in `model.json` are written again, and only if the run was evaluated since.
        onnx: also write `model.onnx` and `score.py`, and compare the graph with PyTorch.

    Returns:
        Schema `trcgl.export/1`: the folder, its files, and `model.json`'s digest, evaluation and parity; `card_updated`
        says whether an existing export has got the evaluation of today.

    Raises:
        CheckpointError: the model is missing or damaged, cannot be written as ONNX, or its graph differs from PyTorch.
        RecipeError: `out` holds something else, or a package for ONNX is missing.
        DataError: the disk is full, or the folder cannot be written to or is a mount point.
    """
    if onnx:
        require_onnx()
    folder, out = model_folder(source), Path(out)
    if os.path.ismount(out):
        raise DataError(f"{out} is a mounted folder, which cannot be replaced. Name a folder below it.")
    model, origin = load_model(folder), origin_of(Path(source))
    info = _portable(model.info, origin)
    with locked_by(out.absolute().with_name(f".{out.absolute().name}{LOCK}"), out):
        stored = _stored(out, info, onnx)
        updated = stored is not None and stored["evaluation"] != info["evaluation"]
        if stored is None:
            with whole(out) as aside:
                stored = _write(aside, folder, model, info, origin, onnx)
        elif updated:
            stored = {**stored, "evaluation": info["evaluation"]}
            card = model_card({**info, "onnx": stored.get("onnx")}, origin, model.space)
            storage.write_text(out / "README.md", card)
            storage.write_json(out / "model.json", stored)
    return {
        "schema": SCHEMA,
        "folder": str(out),
        "files": files(onnx),
        "weights_sha256": stored["weights_sha256"],
        "calibrated": stored["temperature"] is not None,
        "evaluation": stored["evaluation"],
        "card_updated": updated,
        "parity": stored["onnx"]["parity"] if onnx else None,
        "research_use": stored["research_use"],
    }


def files(onnx: bool = True) -> list[str]:
    """Names of the files of an export."""
    return [*_ALWAYS, *(_WITH_ONNX if onnx else ())]


def _write(
    aside: Path, folder: Path, model: LoadedModel, info: dict[str, Any], origin: Origin, onnx: bool
) -> dict[str, Any]:
    with storage.atomic(aside / "model.safetensors") as copy:
        shutil.copyfile(folder / "model.safetensors", copy)
    if onnx:
        info = {**info, "onnx": write_onnx(model, aside / "model.onnx")}
        storage.write_text(aside / "score.py", score_script())
    storage.write_text(aside / "README.md", model_card(info, origin, model.space))
    storage.write_text(aside / "DATA.md", data_card(info, origin, model.space))
    storage.write_json(aside / "model.json", info)
    return info


def _portable(info: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """`model.json` with the evaluations of the run; paths, which may hold a user's name, are cut to the file name."""
    recipe = info["recipe"]
    weights, text = Path(recipe["model"]["weights"]).name, recipe["model"]["label_text"]
    if text is not None and not _HUB_NAME.fullmatch(text):
        text = Path(text).name
    model = {**recipe["model"], "weights": weights, "label_text": text}
    synthetic = info.get("synthetic")
    return {
        **{name: value for name, value in info.items() if name != "onnx"},  # of a folder that was exported before
        "recipe": {**recipe, "model": model},
        "preprocessing": {**info["preprocessing"], "pixel_rule": PIXEL_RULE},
        "synthetic": {name: value for name, value in synthetic.items() if name != "folder"} if synthetic else None,
        "evaluation": {
            name: {key: evaluation[key] for key in ("images", "patients", "overall")}
            for name, evaluation in origin.evaluations.items()
        },
    }


def _stored(out: Path, info: Mapping[str, Any], onnx: bool) -> dict[str, Any] | None:
    """`model.json` of an existing export of the same model; None if `out` is new or empty."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    advice = "Choose another --out, or remove it yourself if it is no longer needed."
    stored = storage.read_json(out / "model.json") if (out / "model.json").is_file() else None
    if not isinstance(stored, dict):
        raise RecipeError(f"{out} is not empty and was not made by trcgl export. {advice}")
    same = dict(stored)
    graph = same.pop("onnx", None)
    if "source" not in stored:  # written by trcgl 0.1.0, whose script reads a radiograph at the network's size
        same["source"] = info["source"]
        same["preprocessing"] = {**same["preprocessing"], "stored_size": same["preprocessing"]["image_size"]}
    same["evaluation"] = info["evaluation"]  # belongs to the model card, and not to the model
    if same != info or (graph is not None) != onnx:
        raise RecipeError(f"{out} holds another export: of other weights, another calibration or other files. {advice}")
    if missing := [name for name in files(onnx) if not (out / name).is_file()]:
        raise RecipeError(f"{out} lacks {missing[0]}. {advice}")
    digests = [("model.safetensors", stored["weights_sha256"]), *([("model.onnx", graph["sha256"])] if graph else [])]
    for name, digest in digests:
        if storage.sha256_file(out / name) != digest:
            raise CheckpointError(f"{out}/{name} is not the file that model.json describes. {advice}")
    return stored


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out` that replaces `out` on success and is removed on failure."""
    out = out.resolve()
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as aside:
            folder = Path(aside, out.name)
            folder.mkdir()
            yield folder
            os.replace(folder, out)
