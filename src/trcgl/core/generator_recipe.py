"""All settings of a generator as frozen dataclasses; see `trcgl.core.recipe`."""

from dataclasses import dataclass, field
from typing import Literal

from trcgl.core.recipe import AugmentRecipe


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Conversion between images and latents. For a generator from scratch; a base brings its own autoencoder."""

    kind: Literal["space_to_depth", "vae"] = "space_to_depth"
    """Autoencoder: `space_to_depth` (lossless, nothing to train) or a small `vae` (loses small findings)."""
    factor: int = 4
    """Side of the image divided by the side of the latent grid; a power of two."""
    latent_channels: int = 4
    """Latent channels of a `vae`; space_to_depth has factor² channels."""
    width: int = 32
    """Channels of the finest level of a `vae`; they double from level to level."""
    steps: int = 4000
    """Optimizer steps of a `vae`."""
    lr: float = 5e-4
    """Learning rate of a `vae`."""
    kl_weight: float = 1e-6
    """Weight of the divergence of the latents from N(0, I) in the loss of a `vae`."""
    features: str | None = None
    """Run folder whose classifier adds a feature loss to the reconstruction loss of a `vae`; default: none."""
    feature_weight: float = 0.1
    """Weight of the feature loss."""
    keep_scale: bool = True
    """Keep the latent scale of a base; off measures it on training images, as for a generator from scratch."""
    cache_latents: bool = True
    """Encode the training images once and keep their latents on disk until training has finished, if the autoencoder is
    a `vae` or that of a base and images are not augmented."""


@dataclass(frozen=True)
class UNetRecipe:
    """The denoising network."""

    widths: tuple[int, ...] = (64, 128)
    """Channels of each level, from fine to coarse."""
    layers: int = 2
    """Residual blocks per level."""
    attention_from: int = 0
    """First level with self-attention and attention to the prompt, counted from 0."""
    head_width: int = 32
    """Channels of an attention head."""
    pooled_text: bool = True
    """Also add the pooled prompt to the embedding of the noise level, which reaches every residual block: the finding
    is learned sooner than through attention at the coarse levels alone. Not with a base."""
    lora_rank: int = 0
    """Rank of the low-rank matrices that adapt a base (Hu et al. 2022); 0 trains the whole U-Net."""


@dataclass(frozen=True)
class TextRecipe:
    """The CLIP-like text encoder of a generator from scratch."""

    width: int = 128
    """Width of the token embeddings."""
    layers: int = 2
    """Number of transformer layers."""
    heads: int = 4
    """Number of attention heads."""
    tokens: int = 48
    """Longest prompt in tokens, with its begin and end token."""
    rate: float = 0.1
    """Learning rate of the text encoder, divided by that of the U-Net. Below 1, the encoded prompts change more slowly
    than the U-Net learns to read them."""


@dataclass(frozen=True)
class ContextRecipe:
    """Learnable context tokens (TRCGL-Net, Figure 1b; Zhou et al. 2022)."""

    placement: Literal["none", "input", "output"] = "output"
    """Place of the context tokens: `input` (before the finding's name, inside the text encoder), `output` (after the
    encoded text, also in the empty prompt) or `none`."""
    shared: int = 4
    """Number of context tokens that all prompts share."""
    per_finding: int = 4
    """Number of context tokens of each finding."""


@dataclass(frozen=True)
class DiffusionRecipe:
    """The forward process and the loss; the network predicts the velocity."""

    min_snr: float = 5.0
    """Parameter γ of min-SNR loss weighting (Hang et al. 2023); 0 weights the velocity error equally at all
    noise levels."""
    log_snr_mean: float = 0.5
    """Most frequent log-SNR in training if `log_snr_std` is set. Findings form around 0.5, between coarse anatomy and
    fine texture."""
    log_snr_std: float = 0.0
    """Standard deviation of the log-SNR of training images (Karras et al. 2022); 0 samples all time steps equally
    often, more than half of which are nearly pure noise."""
    zero_terminal_snr: bool = True
    """Rescale the noise schedule so that its last step is pure noise (Lin et al. 2024); not with a base."""
    caption_dropout: float = 0.1
    """Share of training images with an empty prompt, for classifier-free guidance."""
    label_dropout: float = 0.1
    """Share of images with several findings whose prompt leaves out some of their head and medium findings."""


@dataclass(frozen=True)
class FitRecipe:
    """Optimization and hardware."""

    steps: int = 3000
    """Optimizer steps of the network."""
    context_steps: int = 300
    """Optimizer steps of the context tokens after the network; 0 trains them with the network."""
    batch_size: int = 32
    """Images per step, on all devices together."""
    lr: float = 6e-4
    """Peak learning rate of the network."""
    context_lr: float = 3e-3
    """Peak learning rate of the context tokens."""
    warmup_steps: int = 200
    """Optimizer steps of linear learning-rate warm-up."""
    ema: float = 0.999
    """Decay of the exponential moving average of the trained weights; 0 turns it off."""
    clip_gradient: float = 1.0
    """Largest norm of the gradient; 0 turns clipping off."""
    row_sampling: Literal["class_balanced", "natural"] = "class_balanced"
    """Training images: `class_balanced` (findings equally often) or `natural` (every image equally often, so that tail
    findings are hardly learned)."""
    tail: float = 0.5
    """Share of the `class_balanced` images that are sampled for tail findings and Normal; the others are sampled for
    all findings with equal probability."""
    replay: float = 0.1
    """Share of each `class_balanced` batch that is sampled from all rows with equal probability; most rows are normal
    or show head findings."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Floating-point precision of the network: `32-true`, `bf16-mixed` or `16-mixed`."""
    gradient_checkpointing: bool = False
    """Save memory by computing activations again in the backward pass."""
    deterministic: bool = False
    """Use deterministic algorithms on a GPU, so that the same command gives the same weights bit for bit; slower. On
    CPUs that is always so."""
    workers: int = 0
    """Worker processes that read images or latents; the memory-mapped files rarely need any."""
    grid_every: int = 500
    """Optimizer steps between two grids of sampled images; 0 samples none."""
    save_steps: int = 500
    """Optimizer steps between two resumable checkpoints; 0 saves only at the end and on a signal."""
    devices: int | Literal["auto"] = "auto"
    """Devices per node, or `auto` for all of them."""
    nodes: int = 1
    """Number of machines."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Device: `gpu`, `cpu`, or `auto` for a GPU where there is one."""


UNCHANGED = AugmentRecipe(rotation=0.0, translation=0.0, scale=0.0, brightness=0.0, contrast=0.0)
"""No change of the training images."""


@dataclass(frozen=True)
class GeneratorRecipe:
    """Everything `trcgl train-generator` needs besides a dataset."""

    name: str = "generator"
    """Name of the recipe; recorded in the generator."""
    seed: int = 0
    """Random seed of initial weights, row sampling, prompts and noise."""
    base: str | None = None
    """Folder or hub id of a Stable Diffusion 1.x or 2.x pipeline, or a generator folder, to adapt; default: a generator
    from scratch with a single image channel."""
    revision: str | None = None
    """Commit or tag of a base on the hub. A branch name can move, a commit cannot."""
    image_size: int = 96
    """Side of the synthetic images in pixels."""
    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    """Conversion between images and latents."""
    unet: UNetRecipe = field(default_factory=UNetRecipe)
    """The denoising network."""
    text: TextRecipe = field(default_factory=TextRecipe)
    """The text encoder that reads prompts."""
    views: bool = True
    """Name the view in prompts: frontal, lateral, or no view where it is unknown or another."""
    context: ContextRecipe = field(default_factory=ContextRecipe)
    """Learnable context tokens of the prompts."""
    diffusion: DiffusionRecipe = field(default_factory=DiffusionRecipe)
    """The noise levels and the loss."""
    augment: AugmentRecipe = UNCHANGED
    """Random changes of training images. The generator learns to reproduce them, so keep them realistic. They reduce
    memorization of a small dataset."""
    fit: FitRecipe = field(default_factory=FitRecipe)
    """Optimization and hardware."""
