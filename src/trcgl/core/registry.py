"""Registries: classes by name, built in, registered by the user or offered by an installed package."""

import difflib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar

from trcgl.core.errors import RecipeError

T = TypeVar("T")


class Registry(dict[str, type[T]]):
    """A dict of names to classes that also finds the classes of installed packages.

    `registry[name]` looks among the classes that are already there, then among the entry points of installed
    packages, which are imported only when their name is asked for. A built-in class cannot be replaced.

    Args:
        base: every class is a subclass of it.
        setting: recipe field that holds the name, for messages (`model.head`).
        group: entry-point group of installed packages (`trcgl.heads`).
        classes: the built-in classes.
    """

    def __init__(self, base: type, setting: str, group: str, classes: Mapping[str, type[T]]) -> None:
        super().__init__(classes)
        self.base, self.setting, self.group = base, setting, group
        self.built_in = frozenset(classes)

    def register(self, name: str, cls: type[T]) -> None:
        """Add a class; it replaces a class that was registered earlier under the same name, as in a notebook.

        Raises:
            RecipeError: the name is that of a built-in class, or `cls` is no subclass of `base`.
        """
        if name in self.built_in:
            raise RecipeError(f"{self.setting} {name!r} is built in. Register {_spell(cls)} under another name.")
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise RecipeError(f"{self.setting} {name!r}: {_spell(cls)} is not a subclass of {_spell(self.base)}.")
        self[name] = cls

    def names(self) -> list[str]:
        """Every name, entry points of installed packages included; imports none of them."""
        return list(dict.fromkeys([*self, *installed(self.group)]))

    def __missing__(self, name: str) -> type[T]:
        offered = installed(self.group)
        if name not in offered:
            raise RecipeError(unknown(self.setting, name, self.names()))
        point = offered[name]
        try:
            cls = point.load()
        except Exception as error:  # whatever the import of a foreign package raises
            package = point.dist.name if point.dist else point.module
            raise RecipeError(
                f"{self.setting} {name!r}: {point.value} of the package {package} cannot be imported "
                f"({type(error).__name__}: {error}). Repair or uninstall that package."
            ) from error
        self.register(name, cls)
        return cls


def installed(group: str) -> dict[str, Any]:
    """Entry points of installed packages by name.

    They are objects of `importlib.metadata`, or of its backport where an imported package searches with that.
    """
    return {point.name: point for point in entry_points(group=group)}


def unknown(what: str, name: str, names: Iterable[str]) -> str:
    """The message about a name that does not exist: similar names, then all names."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=3)
    suggestion = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"unknown {what} {name!r}.{suggestion} Available: {', '.join(names)}."


def _spell(cls: object) -> str:
    return f"{cls.__module__}.{cls.__qualname__}" if isinstance(cls, type) else repr(cls)
