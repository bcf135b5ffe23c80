"""Read `audit.json`, including files of version 0.1."""

from pathlib import Path
from typing import Any

from trcgl.audit.check import NOT_REPRESENTABLE
from trcgl.core import storage

SCHEMA = "trcgl.audit/2"
_RENAMED = {
    "drawn": "synthetic",
    "drawn_without": "synthetic_without",
    "n_drawn": "n_synthetic",
    "real_or_drawn": "real_or_synthetic",
    "drawable": "representable",
    "drawing": "sampling",
    "sampler": "solver",
}


def read_audit(path: Path) -> dict[str, Any]:
    """The content of `audit.json`; in audits of schema 1, old names are replaced by the names of schema 2."""
    audit: dict[str, Any] = storage.read_json(path)
    if audit["schema"] == SCHEMA:
        return audit
    audit = {**_renamed(audit), "schema": SCHEMA}
    audit["overall"] = {
        "ceiling": audit.pop("autoencoder"),
        **audit["overall"],
        "shortcut": audit.pop("shortcut"),
        "context_tokens": audit.pop("handwritten"),
        "guidance": audit.pop("guidance"),
    }
    for finding in audit["findings"].values():
        if finding["verdict"]["word"] == "not drawable":
            finding["verdict"]["word"] = NOT_REPRESENTABLE
    return audit


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {_RENAMED.get(name, name): _renamed(content) for name, content in value.items()}
    return [_renamed(content) for content in value] if isinstance(value, list) else value
