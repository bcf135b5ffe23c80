"""Recipes for `trcgl train-generator`. A docstring states the data, the hardware, the training time and the results."""

from dataclasses import replace

from trcgl.core.generator_recipe import (
    AutoencoderRecipe,
    ContextRecipe,
    DiffusionRecipe,
    FitRecipe,
    GeneratorRecipe,
    UNetRecipe,
)
from trcgl.core.recipe import AugmentRecipe


def generator_phantom() -> GeneratorRecipe:
    """A U-Net of 4 million weights from scratch, for phantoms of 64 px as 32 x 32 latents of 4 channels (lossless).

    Data: phantoms of 64 px (`trcgl prepare phantom --size 64 --source.size 64 --source.train-images 24000`). Hardware:
    2 CPU cores, bfloat16. Training time and results: 28 minutes of both cores. An independent classifier recognizes six
    of seven tail findings with an AUROC of at least .89, in at least .60 of the images, with false positives of at most
    .07; the azygos lobe needs --guidance 10; calcified densities are not generated. The structure checks hold in at
    least half of the images of each of five findings: see docs/results/generator-phantom.md.

    All noise levels have the same weight in the loss. Min-SNR weighting would give high noise levels a fiftieth of the
    weight of low noise levels; the high levels decide the finding, so a small network would learn its prompts late.
    Levels around a log-SNR of .5, which decide fine structure, are sampled more often.

        trcgl train-generator phantom --recipe generator_phantom --out generator
    """
    return GeneratorRecipe(
        name="generator_phantom",
        image_size=64,
        views=False,
        autoencoder=AutoencoderRecipe(factor=2),
        unet=UNetRecipe(widths=(32, 64, 128), layers=1, attention_from=2),
        diffusion=DiffusionRecipe(min_snr=0.0, log_snr_std=2.0),
        fit=FitRecipe(
            steps=5200, context_steps=100, batch_size=16, context_lr=1e-3, precision="bf16-mixed", grid_every=2600
        ),
    )


def generator_nih_mini() -> GeneratorRecipe:
    """The network of `generator_phantom`, for a few thousand real radiographs at 64 px.

    Data: about 1,600 training radiographs of NIH ChestX-ray14 (`trcgl prepare nih --size 64`). Hardware: 2 CPU cores,
    bfloat16. Training time and results: 36 minutes of one core. It generates varied chests and no memorized copies, but
    neither of its two tail findings, of which it sees 92 and 29 images: see docs/results/generator-nih-mini.md.

        trcgl train-generator nih-mini --recipe generator_nih_mini --out generator
    """
    recipe = generator_phantom()
    # A share for the tail alone would show each of its few dozen images hundreds of times.
    fit = replace(recipe.fit, steps=4000, context_steps=150, context_lr=3e-3, tail=0.0, replay=0.3)
    augment = AugmentRecipe(rotation=2.0, translation=0.03, scale=0.05, brightness=0.05, contrast=0.1)
    return replace(recipe, name="generator_nih_mini", augment=augment, fit=fit)


def generator_sd15() -> GeneratorRecipe:
    """Stable Diffusion 1.5 with low-rank matrices in its attention, then context tokens within its text encoder.

    Data: PadChest or NIH at 512 px or more. Hardware: one GPU with 24 GB; the estimated memory is 11 GB. Training
    time and results: not measured. LoRA of rank 16, bfloat16, gradient checkpointing. The base is downloaded from the
    hub once, or given as a folder with `--base`, and keeps its latent scale, prediction type and noise schedule; its
    license is CreativeML Open RAIL-M.

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


def generator_sd15_80gb() -> GeneratorRecipe:
    """The recipe `generator_sd15` for a GPU with 80 GB: larger batches and LoRA rank, no gradient checkpointing.

    Data: PadChest or NIH at 512 px or more. Hardware: one GPU with 80 GB; the estimated memory is 69 GB. Training time
    and results: not measured. LoRA of rank 64, bfloat16.

        trcgl train-generator padchest --recipe generator_sd15_80gb --out generator
    """
    recipe = generator_sd15()
    fit = replace(recipe.fit, batch_size=48, lr=2e-4, gradient_checkpointing=False)
    return replace(recipe, name="generator_sd15_80gb", unet=UNetRecipe(lora_rank=64), fit=fit)


def generator_roentgen() -> GeneratorRecipe:
    """The recipe `generator_sd15` from RoentGen-v2, a base that has seen chest radiographs of other hospitals.

    Data: PadChest or NIH at 512 px or more; not the archive on which RoentGen-v2 was trained. Hardware: one GPU with
    24 GB. Training time and results: not measured. The base has the architecture of Stable Diffusion 2.1 at 512 px and
    predicts the noise (arXiv 2508.16783); read its license on the hub, or give its folder with `--base`.

        trcgl train-generator padchest --recipe generator_roentgen --out generator
    """
    return replace(generator_sd15(), name="generator_roentgen", base="stanfordmimi/RoentGen-v2")
