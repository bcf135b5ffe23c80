"""A generator of small radiographs from a few thousand real ones, on a CPU."""

from dataclasses import replace

from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.recipes.generator_phantom import generator_phantom


def generator_nih_mini() -> GeneratorRecipe:
    """The network of `generator_phantom` on real radiographs at 64 px.

    Data: about 1,600 training radiographs of NIH ChestX-ray14 (`trcgl prepare nih --size 64`). Hardware: 2 CPU cores,
    bfloat16. Hours and numbers: 55 minutes of one core. The audit fails what it draws: of so few images of the tail it
    learns copies, and too little of everything else; see docs/results/generator-nih-mini.md.

        trcgl train-generator nih-mini --recipe generator_nih_mini --out generator
    """
    recipe = generator_phantom()
    fit = replace(recipe.fit, steps=6000, context_steps=300)
    return replace(recipe, name="generator_nih_mini", fit=fit)
