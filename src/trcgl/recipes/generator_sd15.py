"""Stable Diffusion 1.5, adapted to radiographs."""

from trcgl.core.generator_recipe import ContextRecipe, FitRecipe, GeneratorRecipe, UNetRecipe


def generator_sd15() -> GeneratorRecipe:
    """Low-rank matrices beside the attention of Stable Diffusion 1.5, then context tokens within its text encoder.

    Data: PadChest or NIH at 512 px or more. Hardware: one GPU with 24 GB or more. Hours and numbers: not measured here.
    The base is fetched from the hub once, or given as a folder with `--base`; its license is CreativeML Open RAIL-M.

        trcgl train-generator padchest --recipe generator_sd15 --out generator
    """
    return GeneratorRecipe(
        name="generator_sd15",
        base="stable-diffusion-v1-5/stable-diffusion-v1-5",
        image_size=512,
        unet=UNetRecipe(lora_rank=16),
        context=ContextRecipe(placement="input", shared=4, per_finding=4),
        fit=FitRecipe(
            steps=20_000,
            context_steps=2_000,
            batch_size=16,
            lr=1e-4,
            context_lr=1e-3,
            warmup_steps=500,
            ema=0.9999,
            precision="bf16-mixed",
            gradient_checkpointing=True,
            grid_every=1000,
            save_steps=1000,
        ),
    )
