"""A generator of phantoms from scratch, on a CPU."""

from trcgl.core.generator_recipe import AutoencoderRecipe, DiffusionRecipe, FitRecipe, GeneratorRecipe, UNetRecipe


def generator_phantom() -> GeneratorRecipe:
    """A U-Net of 4 million weights on phantoms folded losslessly to 32 x 32 places of 4 channels.

    Data: phantoms of 64 px (`trcgl prepare phantom --size 64 --source.size 64 --source.train-images 24000`). Hardware:
    2 CPU cores, bfloat16. Hours and numbers: 28 minutes of both. An independent judge recognizes six of seven
    tail findings at an AUROC of .89 or more, .60 of the images or more and false positives of at most .07; the azygos
    lobe needs --guidance 10, calcified densities are not drawn. The structure checks hold on at least half of the
    images of five: see docs/results/generator-phantom.md.

    All noise levels weigh alike. Min-SNR gives the high ones, where it is decided which finding is drawn, a fiftieth of
    the weight of the low ones, and a small network then hears its prompts late. Levels around a log-SNR of .5, where
    fine structure is decided, are shown more often.

        trcgl train-generator phantom --recipe generator_phantom --out generator
    """
    return GeneratorRecipe(
        name="generator_phantom",
        image_size=64,
        autoencoder=AutoencoderRecipe(factor=2),
        unet=UNetRecipe(widths=(32, 64, 128), layers=1, attention_from=2),
        diffusion=DiffusionRecipe(min_snr=0.0, log_snr_std=2.0),
        fit=FitRecipe(
            steps=5200,
            context_steps=100,
            batch_size=16,
            context_lr=1e-3,
            precision="bf16-mixed",
            grid_every=2600,
        ),
    )
