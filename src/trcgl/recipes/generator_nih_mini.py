"""A generator of small radiographs from a few thousand real ones, on a CPU."""

from dataclasses import replace

from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.recipes.generator_phantom import generator_phantom


def generator_nih_mini() -> GeneratorRecipe:
    """The network of `generator_phantom` on real radiographs at 64 px.

    Data: about 1,600 training radiographs of NIH ChestX-ray14 (`trcgl prepare nih --size 64`). Hardware: 2 CPU cores,
    bfloat16. Hours and numbers: not measured yet. With so few images a long run learns them by heart: audit what it
    draws.

        trcgl train-generator nih-mini --recipe generator_nih_mini --out generator
    """
    return replace(generator_phantom(), name="generator_nih_mini")
