"""An experiment is a function that returns a `Recipe`; its docstring says on what, how long and what to expect."""

from collections.abc import Callable

from trcgl.core.recipe import Recipe
from trcgl.recipes.nih_mini import nih_mini
from trcgl.recipes.trcgl import trcgl
from trcgl.recipes.trcgl_paper import trcgl_paper

RECIPES: dict[str, Callable[[], Recipe]] = {"trcgl": trcgl, "trcgl_paper": trcgl_paper, "nih_mini": nih_mini}
"""Name on the command line (`--recipe NAME`) to the function that builds it."""
