"""Types of recipe fields: whether a value from JSON has the type, how to spell the type, and paths of all fields."""

import types
import typing
from typing import Any, Literal


def fits(value: Any, hint: Any) -> bool:
    """Whether a value has the type; an integer is a float as well, and a truth value is no number."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, typing.get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def spell(hint: Any) -> str:
    """The type as it is written in code."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def flatten(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Values of nested dictionaries by their paths: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return flat
