"""An experiment is a function that returns a `Recipe`; its docstring says on what, how long and what to expect."""

from collections.abc import Callable

from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.recipe import Recipe
from trcgl.recipes.chestmnist import chestmnist
from trcgl.recipes.chexpert import chexpert
from trcgl.recipes.generator_nih_mini import generator_nih_mini
from trcgl.recipes.generator_phantom import generator_phantom
from trcgl.recipes.generator_sd15 import generator_sd15
from trcgl.recipes.mimic_cxr_lt import mimic_cxr_lt
from trcgl.recipes.nih import nih
from trcgl.recipes.nih_mini import nih_mini
from trcgl.recipes.padchest import padchest
from trcgl.recipes.phantom import phantom
from trcgl.recipes.trcgl import trcgl
from trcgl.recipes.trcgl_paper import trcgl_paper
from trcgl.recipes.vindr import vindr

RECIPES: dict[str, Callable[[], Recipe]] = {
    one.__name__: one
    for one in (trcgl, trcgl_paper, padchest, nih, nih_mini, chexpert, mimic_cxr_lt, vindr, chestmnist, phantom)
}
"""Name on the command line (`trcgl train --recipe NAME`) to the function that builds it."""

GENERATORS: dict[str, Callable[[], GeneratorRecipe]] = {
    one.__name__: one for one in (generator_phantom, generator_nih_mini, generator_sd15)
}
"""The same for `trcgl train-generator`."""
