"""A generator of small radiographs from a few thousand real ones, on a CPU."""

from dataclasses import replace

from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.recipe import AugmentRecipe
from trcgl.recipes.generator_phantom import generator_phantom


def generator_nih_mini() -> GeneratorRecipe:
    """The network of `generator_phantom` on real radiographs at 64 px.

    Data: about 1,600 training radiographs of NIH ChestX-ray14 (`trcgl prepare nih --size 64`). Hardware: 2 CPU cores,
    bfloat16. Hours and numbers: 36 minutes of one core. It draws varied chests and no copies, but neither of its two
    tail findings, of which it sees 92 and 29 images: see docs/results/generator-nih-mini.md.

        trcgl train-generator nih-mini --recipe generator_nih_mini --out generator
    """
    recipe = generator_phantom()
    # A share of their own would show each of a few dozen images of the tail hundreds of times.
    fit = replace(recipe.fit, steps=4000, context_steps=150, context_lr=3e-3, tail=0.0, replay=0.3)
    changed = AugmentRecipe(rotation=2.0, translation=0.03, scale=0.05, brightness=0.05, contrast=0.1)
    return replace(recipe, name="generator_nih_mini", augment=changed, fit=fit)
