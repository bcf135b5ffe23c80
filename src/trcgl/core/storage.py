"""Output folders: atomic writes, digests, environment, and refusal to overwrite."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trcgl import __version__
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.lock import LOCK
from trcgl.core.write_errors import flush, flush_folder, writing

if TYPE_CHECKING:
    from polars import DataFrame

_WITHOUT_RESULTS = ("run.json", "environment.json", "metrics.jsonl", "metrics.csv", "hparams.yaml")
"""Files that a command writes before its first result, beside the claim of its folder."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it replaces `path` in one step, on failure it is removed.

    The file is flushed to disk before the rename, so `path` is always whole: the old file or the new one.

    Raises:
        DataError: the file cannot be written; the message names the cause.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path, aside):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            with open(aside, "rb+") as handle:
                flush(handle.fileno())
            os.replace(aside, path)
            flush_folder(path.parent)
    finally:
        with suppress(OSError):  # the first error is the one to report
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically (UTF-8)."""
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_parquet(path: Path, table: "DataFrame") -> None:
    """Write a polars table atomically."""
    with atomic(path) as aside:
        table.write_parquet(aside)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Is this the right folder, and did the earlier step finish?") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error}). Make the folder again.") from error


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(lines: Iterator[str] | list[str]) -> str:
    """Hexadecimal SHA-256 of a set of texts, whatever their order (used for the patients of a split)."""
    whole = hashlib.sha256()
    for line in sorted(lines):
        whole.update(line.encode() + b"\n")
    return whole.hexdigest()


def claim(folder: Path, name: str, settings: str, explain: Callable[[str], str] | None = None) -> bool:
    """Claim `folder` for some settings, which are stored in it.

    `folder`: the folder to claim; new, empty, or claimed before for the same settings. `explain`: describes how stored
    settings differ from these; an empty description means that they are the same, although an earlier version wrote
    them as another text.

    Settings of a command that failed before it made anything worth keeping are replaced.

    Returns:
        Whether the folder was claimed before; its results then belong to these settings.

    Raises:
        RecipeError: the folder holds results of other settings, or files that this project did not write.
    """
    folder = Path(folder)
    stored = folder / name
    if stored.exists():
        before = stored.read_text(encoding="utf-8")
        if before != settings and _has_settings_only(folder, name, before, settings):
            write_text(stored, settings)
            return False
        detail = explain(before) if explain else ""
        if before == settings or (explain and not detail):
            return True
        raise RecipeError(
            f"{folder} was made with other settings{': ' + detail if detail else ''}. "
            "Choose another --out, or remove that folder yourself if it is no longer needed."
        )
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"{folder} is a file. Choose another --out.")
    if folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        raise RecipeError(f"{folder} is not empty and was not made by trcgl. Choose another --out.")
    write_text(stored, settings)
    return False


def _has_settings_only(folder: Path, name: str, before: str, settings: str) -> bool:
    """Whether a claimed folder has no results: only the claim, records of the start, logs and unfinished files."""
    try:
        old, new = json.loads(before), json.loads(settings)
    except ValueError:
        return False
    if not (isinstance(old, dict) and isinstance(new, dict) and old.keys() & new.keys()):
        return False  # a file of another program that has the same name
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return all(
        path in (folder / name, folder / LOCK)
        or path.name in _WITHOUT_RESULTS
        or path.name.startswith("events.out.tfevents")
        or (path.name.startswith(".") and path.suffix == ".part")
        for path in files
    )


def claim_settings(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    current: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> bool:
    """Claim `folder` for `settings`, compared by value with the settings stored in the JSON file `name`.

    `settings`: all that decides the content of the folder; plain JSON values. `current`: translates stored settings of
    an earlier version: new names, defaults of new settings.

    Returns:
        Whether the folder was claimed before.
    """
    text = json.dumps(settings, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def differences(stored: str) -> str:
        try:
            old, new = current(json.loads(stored)), json.loads(text)
        except (ValueError, TypeError, AttributeError):
            return f"its {name} cannot be read"
        changed = [key for key in {**new, **old} if old.get(key) != new.get(key)]
        return "; ".join(f"{key}: {old.get(key)} → {new.get(key)}" for key in changed)

    return claim(folder, name, text, differences)


def environment() -> dict[str, Any]:
    """Versions and machine, for `environment.json`; no user name, host name or path."""
    packages = {}
    for package in ("torch", "torchvision", "timm", "lightning", "numpy", "scipy", "polars", "pillow", "pydicom"):
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "trcgl": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": packages,
    }


def append_jsonl(handle: IO[str], value: dict[str, Any]) -> None:
    """Append a line of JSON and flush it."""
    handle.write(json.dumps(value, allow_nan=False) + "\n")
    handle.flush()


def command() -> str:
    """The command that is running, as a user would type it."""
    return " ".join(["trcgl", *sys.argv[1:]])
