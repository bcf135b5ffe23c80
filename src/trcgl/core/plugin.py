"""Plugins: Python files of the user that register heads, losses and recipes."""

import importlib.util
import sys
from pathlib import Path

from trcgl.core.errors import RecipeError


def load_plugin(file: Path) -> None:
    """Run a Python file that calls `register_head`, `register_loss` or `register_recipe`.

    Raises:
        RecipeError: there is no such file, or it raises an error; the message names the file and the cause.
    """
    file = Path(file)
    if not file.is_file():
        raise RecipeError(f"--plugin {file}: no such file. Give a Python file that registers heads, losses or recipes.")
    name = f"trcgl_plugin_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RecipeError(f"--plugin {file}: not a Python file. Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        del sys.modules[name]
        raise RecipeError(f"--plugin {file}: {_line(error, file)}{type(error).__name__}: {error}") from error


def _line(error: Exception, file: Path) -> str:
    """The last line of the file on the way to the error."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    found, trace = "", error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(file):
            found = f"line {trace.tb_lineno}: "
        trace = trace.tb_next
    return found
