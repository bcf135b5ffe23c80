"""Studies written by version 0.1.0, under the names of this version."""

import re
from pathlib import Path
from typing import Any

from trcgl.core import storage

_KEYS = {"drawn": "synthetic", "redrawn": "counterfactual"}
_PARTS = {
    r"\bdrawn(?=_(mix|pretrain|entropy))": "synthetic",
    r"\bwithout_drawn\b": "without_synthetic",
    r"\b(up_to|without)_sampler\b": r"\1_row_sampling",
    r"\bredrawn(?=[/.])": "counterfactual",
    r"\btrain\.sampler\b": "train.row_sampling",
    r"does drawing help more than copying\?": "do synthetic images help more than duplicates?",
    r"does drawing help at all\?": "do synthetic images help?",
    r"do copies help at all\?": "do duplicates help?",
    r"\bthe sampler\b": "row sampling",
    r"\bthe arm drawn\b": "the arm synthetic",
    r"\bA finding is drawn first\b": "A finding is chosen first",
    r"\ba finding is drawn first\b": "a finding is chosen first",
}


def translate(value: Any) -> Any:
    """JSON of a study or its table with every old name replaced by the current one; numbers stay as they are."""
    if isinstance(value, dict):
        return {translate(key): translate(item) for key, item in value.items()}
    if isinstance(value, list):
        return [translate(item) for item in value]
    if not isinstance(value, str):
        return value
    if value in _KEYS:
        return _KEYS[value]
    for pattern, new in _PARTS.items():
        value = re.sub(pattern, new, value)
    return value


def path_in(folder: Path, name: str) -> Path:
    """The path `folder / name`; in a study of 0.1.0, the path that 0.1.0 used for the same content."""
    former = name.replace("synthetic", "drawn").replace("row_sampling", "sampler").replace("duplicates", "copies")
    return folder / former if (folder / former).exists() else folder / name


def read_stored(path: Path) -> Any:
    """A JSON file of a study (`table.json`, `study.json`, `causes-K.json`) written by this version or by 0.1.0."""
    return translate(storage.read_json(path))
