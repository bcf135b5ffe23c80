"""A generator of small radiographs from a few thousand real ones, on a CPU."""

from trcgl.core.generator_recipe import FitRecipe, GeneratorRecipe, UNetRecipe


def generator_nih_mini() -> GeneratorRecipe:
    """The network of `generator_phantom` on real radiographs at 96 px.

    Data: about 1,600 training radiographs of NIH ChestX-ray14 (`trcgl prepare nih`). Hardware: 2 CPU cores, bfloat16.
    Hours and numbers: not measured here yet. With so few images a long run learns them by heart: audit what it draws.

        trcgl train-generator nih-mini --recipe generator_nih_mini --out generator
    """
    return GeneratorRecipe(
        name="generator_nih_mini",
        image_size=96,
        unet=UNetRecipe(widths=(64, 128), layers=1, attention_from=1),
        fit=FitRecipe(steps=2400, context_steps=200, batch_size=32, precision="bf16-mixed"),
    )
