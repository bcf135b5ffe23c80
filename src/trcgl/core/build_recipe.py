"""Recipes from nested dictionaries, with a check of every name and type."""

import dataclasses
import difflib
import typing
from collections.abc import Collection, Iterable
from typing import Any

from trcgl.core.errors import RecipeError
from trcgl.core.field_types import fits, spell
from trcgl.core.loss_settings import LossSettings, settings_class, unregistered


def build(kind: type, raw: Any, path: str) -> Any:
    """An instance of the dataclass `kind` from nested dictionaries; `path` precedes field names in messages.

    Raises:
        RecipeError: a field is unknown or of the wrong type.
    """
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe field {path or 'at the top'}: expected an object, found {raw!r}")
    hints = typing.get_type_hints(kind)
    refuse_unknown([path + name for name in raw], [path + field.name for field in dataclasses.fields(kind)])
    values: dict[str, Any] = {}
    for name, value in raw.items():
        hint = hints[name]
        if typing.get_origin(hint) is tuple and isinstance(value, list):  # JSON has no tuples
            value = tuple(value)
        if hint is LossSettings:
            values[name] = _loss_settings(raw.get("name", "bce"), value, f"{path}{name}.")
        elif dataclasses.is_dataclass(hint):
            values[name] = build(typing.cast(type, hint), value, f"{path}{name}.")
        elif not fits(value, hint):
            raise RecipeError(f"recipe field {path}{name}: {value!r} is not {spell(hint)}")
        else:
            values[name] = float(value) if hint is float else value
    return kind(**values)


def _loss_settings(name: str, raw: Any, path: str) -> LossSettings:
    kind = settings_class(name)
    if kind is None and isinstance(raw, dict):
        return unregistered(raw)
    return build(kind or LossSettings, raw, path)


def refuse_unknown(paths: Iterable[str], known: Collection[str]) -> None:
    """Refuse paths of fields that do not exist.

    Raises:
        RecipeError: names them, and a known path of similar spelling.
    """
    unknown = sorted(set(paths) - set(known))
    if not unknown:
        return
    close = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    if unknown[0].startswith("loss.settings."):
        own = [path.rpartition(".")[2] for path in known if path.startswith("loss.settings.")]
        hint = f"; this loss has {', '.join(own)}" if own else "; this loss has no settings"
    raise RecipeError(f"recipe fields unknown: {', '.join(unknown)}{hint}")
