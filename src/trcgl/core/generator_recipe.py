"""Everything that decides what a generator learns, as frozen dataclasses; see `trcgl.core.recipe`."""

from dataclasses import dataclass, field
from typing import Literal

from trcgl.core.recipe import AugmentRecipe


@dataclass(frozen=True)
class AutoencoderRecipe:
    """From images to latents and back; a generator from scratch only, a base brings its own."""

    kind: Literal["space_to_depth", "vae"] = "space_to_depth"
    """`space_to_depth` loses nothing and learns nothing; a small `vae` erases small findings."""
    factor: int = 4
    """Pixels per side that become one place of the latent grid; a power of two for a `vae`."""
    latent_channels: int = 4
    """Channels of a `vae`; space-to-depth has factor²."""
    width: int = 32
    """Channels of the first level of a `vae`; each level below doubles them."""
    steps: int = 4000
    """Optimizer steps of a `vae`."""
    lr: float = 5e-4
    kl_weight: float = 1e-6
    """Pull of the latents towards N(0, I)."""
    features: str | None = None
    """A run folder: the reconstruction is also compared in the features of its classifier."""
    feature_weight: float = 0.1
    """Weight of that comparison."""


@dataclass(frozen=True)
class UNetRecipe:
    """The denoising network."""

    widths: tuple[int, ...] = (64, 128)
    """Channels of the levels, from fine to coarse."""
    layers: int = 2
    """Residual blocks per level."""
    attention_from: int = 0
    """First level that attends to itself and to the prompt."""
    head_width: int = 32
    """Channels of an attention head."""
    pooled_text: bool = True
    """Also add the pooled prompt to the noise level's embedding, which reaches every residual block: what is asked for
    is learned sooner than through the attention of coarse levels alone. From scratch only; a base keeps its own."""
    lora_rank: int = 0
    """Adapt a base by matrices of this rank (Hu et al. 2022); 0 trains all of its U-Net."""


@dataclass(frozen=True)
class TextRecipe:
    """The text encoder of a generator from scratch, of the kind of CLIP's."""

    width: int = 128
    layers: int = 2
    heads: int = 4
    tokens: int = 48
    """Longest prompt, with its begin and end."""
    rate: float = 0.1
    """Learning rate of what reads prompts, as a factor of the network's: what they mean must not move faster than it
    is learned."""


@dataclass(frozen=True)
class ContextRecipe:
    """Learnable context tokens (TRCGL-Net, Figure 1b; Zhou et al. 2022)."""

    placement: Literal["none", "input", "output"] = "output"
    """`input`: before the finding's name within the text encoder. `output`: after the encoded text of both the
    conditional and the empty prompt."""
    shared: int = 4
    """Tokens of every prompt."""
    per_finding: int = 4
    """Tokens of each finding."""


@dataclass(frozen=True)
class DiffusionRecipe:
    """The forward process and its loss; the network predicts the velocity."""

    min_snr: float = 5.0
    """gamma of min-SNR weighting (Hang et al. 2023); 0 weighs the velocity's error alike at all noise levels."""
    log_snr_mean: float = 0.5
    """Noise levels that training shows most, where `log_snr_std` is set: half of a log-SNR is where a finding is
    drawn, after the chest and before the grain."""
    log_snr_std: float = 0.0
    """Standard deviation around it (Karras et al. 2022); 0 shows all levels alike, more than half of which are nearly
    pure noise."""
    zero_terminal_snr: bool = True
    """Rescale the schedule so that the last step is noise alone (Lin et al. 2024); not with a base."""
    caption_dropout: float = 0.1
    """Share of training images whose prompt is empty, for classifier-free guidance."""
    label_dropout: float = 0.1
    """Share of images with several findings whose prompt names only some of those that are not of the tail."""


@dataclass(frozen=True)
class FitRecipe:
    """Optimization and hardware."""

    steps: int = 3000
    """Optimizer steps of the network."""
    context_steps: int = 300
    """Optimizer steps of the context tokens, afterwards; 0 trains them with the network."""
    batch_size: int = 32
    """Images per step on all devices together."""
    lr: float = 6e-4
    """Largest learning rate of the network."""
    context_lr: float = 3e-3
    """Largest learning rate of the context tokens."""
    warmup_steps: int = 200
    ema: float = 0.999
    """Decay of the exponential moving average of what is trained; 0 switches it off."""
    clip_gradient: float = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    row_sampling: Literal["class_balanced", "natural"] = "class_balanced"
    """Natural sampling leaves the tail undrawn."""
    tail: float = 0.5
    """Of the images that `class_balanced` picks, the share that is picked for a tail finding or for being normal; the
    rest is picked for all findings alike. What is drawn most is seen most."""
    replay: float = 0.1
    """Share of each batch that `class_balanced` takes from all rows alike, most of them normal or of the head."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    gradient_checkpointing: bool = False
    """Less memory for more time: activations are computed again in the backward pass."""
    grid_every: int = 500
    """Steps between two grids of samples; 0 draws none."""
    save_steps: int = 500
    """Steps between two resumable checkpoints; 0 saves at the end and on a signal alone."""
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"


UNCHANGED = AugmentRecipe(rotation=0.0, translation=0.0, scale=0.0, brightness=0.0, contrast=0.0)
"""Training images as they are."""


@dataclass(frozen=True)
class GeneratorRecipe:
    """One generator: what `trcgl train-generator` needs besides a dataset."""

    name: str = "generator"
    """Name of the function in `trcgl.recipes` that built it."""
    seed: int = 0
    base: str | None = None
    """Folder or hub id of a pipeline of the kind of Stable Diffusion 1.x; None starts from scratch on one channel."""
    revision: str | None = None
    """Commit or tag of a base on the hub: names move, commits do not."""
    image_size: int = 96
    """Side of the drawn images, in pixels."""
    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    unet: UNetRecipe = field(default_factory=UNetRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    context: ContextRecipe = field(default_factory=ContextRecipe)
    diffusion: DiffusionRecipe = field(default_factory=DiffusionRecipe)
    augment: AugmentRecipe = UNCHANGED
    """What is learned is what is drawn, so changes have to be such as a radiograph could have. They keep a few images
    from being learned by heart."""
    fit: FitRecipe = field(default_factory=FitRecipe)
