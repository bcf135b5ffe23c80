"""Plugins: Python files of the user that register heads, losses and recipes."""

import importlib.util
import sys
import traceback
from pathlib import Path

from trcgl.core.errors import RecipeError

LOADED: list[str] = []
"""Module names of the loaded plugins, for worker processes that have to import them as well."""


def load_plugin(file: Path) -> None:
    """Import a Python file that calls `register_head`, `register_loss` or `register_recipe`.

    Its folder is appended to the module search path, from which worker processes import it by name.

    Raises:
        RecipeError: there is no such file, its name is that of another module, or it raises an error; the message names
            the file and the cause.
    """
    file = Path(file).resolve()
    if not file.is_file() or file.suffix != ".py":
        raise RecipeError(f"--plugin {file}: no such file. Give a .py file that registers heads, losses or recipes.")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.find_spec(file.stem)
    if spec is None or spec.origin != str(file):
        raise RecipeError(f"--plugin {file}: another module is named {file.stem}. Rename the file.")
    try:
        importlib.import_module(file.stem)
    except Exception as error:  # whatever the user's code raises
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"line {line}: " if line else ""
        raise RecipeError(f"--plugin {file}: {where}{type(error).__name__}: {error}") from error
    LOADED.append(file.stem)
