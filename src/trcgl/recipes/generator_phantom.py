"""A generator of phantoms from scratch, on a CPU."""

from trcgl.core.generator_recipe import FitRecipe, GeneratorRecipe, UNetRecipe


def generator_phantom() -> GeneratorRecipe:
    """A U-Net of 4 million weights on phantoms folded losslessly to 24 x 24 places of 16 channels.

    Data: phantoms of 96 px (`trcgl prepare phantom --source.train-images 12000`). Hardware: 2 CPU cores, bfloat16.
    Hours and numbers: not measured here yet.

        trcgl train-generator phantom --recipe generator_phantom --out generator
    """
    return GeneratorRecipe(
        name="generator_phantom",
        image_size=96,
        unet=UNetRecipe(widths=(64, 128), layers=1, attention_from=1),
        fit=FitRecipe(steps=2100, context_steps=150, batch_size=32, precision="bf16-mixed"),
    )
