"""A generator: a diffusers pipeline like Stable Diffusion 1.x with context tokens and a label space."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.embeddings import TextTimeEmbedding
from jaxtyping import Float
from peft import LoraConfig
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from trcgl.core.errors import DataError, RecipeError
from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.memory import keep_freed_memory
from trcgl.core.randomness import derive_seed
from trcgl.dataset.labels import LabelSpace
from trcgl.generate.autoencoder import Autoencoder, build_autoencoder, decode, denormalized, encode, normalized
from trcgl.generate.context import ContextTokens
from trcgl.generate.prompts import EMPTY, VIEWS, Prompt, PromptFormat
from trcgl.generate.tokenizer import build_tokenizer

_WORD_END = "</w>"
_WEAK = 0.3  # initial scale of the pooled prompt


@dataclass
class Generator:
    """All parts of a generator."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel  # ids to vectors (B, T, D)
    vae: Autoencoder
    unet: UNet2DConditionModel  # predicts the velocity of noised latents
    scheduler: DDIMScheduler
    context: ContextTokens
    space: LabelSpace
    info: dict[str, Any]  # content of `generator.json`; empty before the generator is saved
    views: bool = False  # whether prompts name the view
    positives: Mapping[str, int] = field(default_factory=dict)  # finding to its number of positive training images
    _known: dict[str, list[int]] = field(default_factory=dict, repr=False)  # cache of the ids of words

    def __post_init__(self) -> None:
        # The text encoder is small; its fused attention costs a twelfth of a training step on a CPU, and gains nothing.
        self.text_encoder.set_attn_implementation("eager")

    @cached_property
    def _column(self) -> dict[str, int]:
        return {finding: column for column, finding in enumerate(self.space.findings)}

    @property
    def prompts(self) -> PromptFormat:
        """The wording of the prompts, which fit into the text encoder with all context tokens.

        The context tokens count also while they are switched off, so that prompts with and without them are the same.
        """
        return PromptFormat(self.space, self.views, self.positives, lambda prompt: self.tokens(prompt) <= self.longest)

    @property
    def longest(self) -> int:
        """Number of tokens that the text encoder reads."""
        return self.tokenizer.model_max_length

    @property
    def image_size(self) -> int:
        """Side of the generated images in pixels."""
        factor = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        return self.unet.config["sample_size"] * factor

    def to(self, device: str | torch.device) -> "Generator":
        """Move all parts to a device, and select the fastest attention of the U-Net for it."""
        if torch.device(device).type == "cpu":
            keep_freed_memory()
        for part in (self.text_encoder, self.vae, self.unet, self.context):
            part.to(device)
        self.unet.to(memory_format=torch.channels_last)
        # On CPUs the fused kernel's backward pass in bfloat16 takes three times as long as plain attention.
        plain = torch.device(device).type == "cpu"
        self.unet.set_attn_processor(AttnProcessor() if plain else AttnProcessor2_0())
        return self

    def encode(self, prompts: Sequence[Prompt]) -> Float[Tensor, "batch tokens width"]:
        """Encoded prompts with their context tokens, all of the same length."""
        device = self.text_encoder.device
        ids = torch.tensor([self.ids(prompt) for prompt in prompts], device=device)
        embedding, vocabulary = self.text_encoder.get_input_embeddings(), self.text_encoder.config.vocab_size
        with self.context.embedded(embedding, vocabulary) if self.context.within else nullcontext():
            hidden = self.text_encoder(ids).last_hidden_state
        if not self.context.after:
            return hidden
        present = torch.zeros(len(prompts), len(self.space.findings), device=device)
        for row, prompt in zip(present, prompts, strict=True):
            row[[self._column[finding] for finding in prompt.findings]] = 1
        return self.context.append(hidden, present)

    def encode_empty(self) -> Float[Tensor, "1 tokens width"]:
        """The encoded empty prompt, of the same length as any other."""
        return self.encode([EMPTY])

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt with placeholders of the context tokens, begin and end, padded to full length."""
        vocabulary = self.text_encoder.config.vocab_size
        ids = [self.tokenizer.bos_token_id]
        if self.context.within:
            ids += self.context.shared_ids(vocabulary)
        for words, finding in prompt.pieces:
            if finding and self.context.within:
                ids += self.context.finding_ids(self._column[finding], vocabulary)
            ids += self._ids_of(words)
        ids.append(self.tokenizer.eos_token_id)
        if len(ids) > self.longest:
            raise DataError(
                f"the prompt {prompt.text!r} has {len(ids)} tokens, and the text encoder reads {self.longest}. "
                "Ask for fewer findings, or use fewer context tokens."
            )
        return ids + [self.tokenizer.pad_token_id] * (self.longest - len(ids))

    def tokens(self, prompt: Prompt) -> int:
        """Number of tokens of a prompt, with begin, end and every context token that the text encoder may read."""
        shared, each = self.context.read
        words = sum(len(self._ids_of(words)) for words, _ in prompt.pieces)
        return 2 + shared + words + each * len(prompt.findings)

    def _ids_of(self, words: str) -> list[int]:
        if words not in self._known:
            self._known[words] = self.tokenizer(words, add_special_tokens=False).input_ids
        return self._known[words]

    def as_encoded(self, prompt: Prompt) -> list[str]:
        """A prompt as it is encoded: tokens of the text encoder, and context tokens within or after them."""
        vocabulary, shared = self.text_encoder.config.vocab_size, len(self.context.shared)
        each = self.context.of_finding.shape[1]
        pieces = []
        for token in self.ids(prompt):
            if token < vocabulary:
                pieces.append(self.tokenizer.convert_ids_to_tokens(token).removesuffix(_WORD_END))
            elif token < vocabulary + shared:
                pieces.append(f"[shared {token - vocabulary + 1}]")
            else:
                finding, place = divmod(token - vocabulary - shared, each)
                pieces.append(f"[{self.space.findings[finding]} {place + 1}]")
        end = pieces.index(self.tokenizer.eos_token.removesuffix(_WORD_END)) + 1
        pieces = pieces[:end]
        if self.context.after:
            about = " + ".join(prompt.findings) or "all findings"
            pieces += [f"[shared {place + 1}]" for place in range(shared)]
            pieces += [f"[mean of {about} {place + 1}]" for place in range(each)]
        return pieces

    def word_vectors(self, phrases: Iterable[str]) -> Float[Tensor, "phrases width"]:
        """Mean vector of the words of each phrase, comparable with context tokens.

        Vectors are word embeddings for the placement `input` and outputs of the text encoder for `output`.
        """
        vectors = []
        for words in phrases:
            ids = self.tokenizer(words, return_tensors="pt").input_ids.to(self.text_encoder.device)
            with torch.no_grad():
                if self.context.placement == "input":
                    found = self.text_encoder.get_input_embeddings()(ids)
                else:
                    found = self.text_encoder(ids).last_hidden_state
            vectors.append(found[0, 1:-1].mean(0))
        return torch.stack(vectors)

    def to_latents(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch channels h w"]:
        """Latents of unit variance of images in [-1, 1]."""
        return normalized(self.vae, encode(self.vae, images).sample())

    def from_latents(self, latents: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch colors height width"]:
        """Images of latents, nominally in [-1, 1]."""
        return decode(self.vae, denormalized(self.vae, latents))


def build(recipe: GeneratorRecipe, space: LabelSpace) -> Generator:
    """A generator from scratch with a single image channel; all weights are functions of the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "autoencoder"))
        vae = build_autoencoder(recipe.autoencoder)
    levels = len(recipe.unet.widths)
    coarsest = recipe.autoencoder.factor * 2 ** (levels - 1)
    if recipe.image_size % coarsest:
        raise RecipeError(
            f"image_size is {recipe.image_size}; with autoencoder.factor {recipe.autoencoder.factor} and {levels} "
            f"levels of the U-Net it must be a multiple of {coarsest}."
        )
    wording, named_views = PromptFormat(space, recipe.views), VIEWS if recipe.views else (None,)
    texts = (wording.prompt((finding,), view).text + ", and" for finding in space.findings for view in named_views)
    tokenizer = build_tokenizer(texts, recipe.text.tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "generator"))
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=recipe.text.width,
                projection_dim=recipe.text.width,
                intermediate_size=4 * recipe.text.width,
                num_hidden_layers=recipe.text.layers,
                num_attention_heads=recipe.text.heads,
                max_position_embeddings=recipe.text.tokens,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        attends = [level >= recipe.unet.attention_from for level in range(levels)]
        channels = vae.config["latent_channels"]
        unet = UNet2DConditionModel(
            sample_size=recipe.image_size // recipe.autoencoder.factor,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=recipe.unet.layers,
            block_out_channels=recipe.unet.widths,
            down_block_types=tuple("CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in attends),
            up_block_types=tuple("CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(attends)),
            attention_head_dim=tuple(width // recipe.unet.head_width for width in recipe.unet.widths),
            cross_attention_dim=recipe.text.width,
            addition_embed_type="text" if recipe.unet.pooled_text else None,
            addition_embed_type_num_heads=recipe.text.heads,
            norm_num_groups=16,
            resnet_time_scale_shift="scale_shift",
        )
        context = ContextTokens(recipe.context, len(space.findings), recipe.text.width)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=recipe.diffusion.zero_terminal_snr,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )
    generator = Generator(tokenizer, text_encoder, vae, unet, scheduler, context, space, {}, recipe.views)
    _initialize_conditioning(generator)
    return generator


@torch.no_grad()
def _initialize_conditioning(generator: Generator) -> None:
    """Initialize the influence of prompts as weak but different for each finding.

    An untrained network treats random prompt vectors as noise and suppresses them: within some hundred steps text
    encoder and pooled prompt collapse to constants. So the output of cross-attention starts at zero, and the pooled
    prompt is standardized to mean 0 and variance 1 over the findings, which removes the part that all prompts share,
    nine tenths of a random encoder's output. `text_modules` then learn slowly, so that prompts keep their meaning.
    """
    for module in generator.unet.modules():
        if isinstance(module, BasicTransformerBlock):
            for part in module.attn2.to_out[0].parameters():
                part.zero_()
        elif isinstance(module, TextTimeEmbedding):
            findings = generator.space.findings
            text = generator.encode([generator.prompts.prompt((finding,), VIEWS[0]) for finding in findings])
            pooled = module.proj(module.pool(module.norm1(text)))
            spread = pooled.std(0).clamp(min=1e-3) if len(pooled) > 1 else torch.ones_like(pooled[0])
            module.proj.weight.div_(spread[:, None])
            module.proj.bias.sub_(pooled.mean(0)).div_(spread)
            module.norm2.weight.fill_(_WEAK)


def text_modules(generator: Generator) -> list[torch.nn.Module]:
    """The modules that read prompts: the text encoder, and the pooling of its output if there is one."""
    pooling = generator.unet.add_embedding if generator.unet.config["addition_embed_type"] == "text" else None
    return [generator.text_encoder, *([pooling] if pooling else [])]


def adapt(generator: Generator, recipe: GeneratorRecipe) -> torch.nn.Module:
    """Prepare the U-Net for training: all of its weights, or low-rank matrices beside its attention (LoRA).

    Source: Hu et al. 2022; query, key, value and output of every attention, as Stable Diffusion is usually adapted.
    """
    if not recipe.unet.lora_rank:
        return generator.unet.requires_grad_(True)
    rank = recipe.unet.lora_rank
    generator.unet.requires_grad_(False)
    adapter = LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "adapter"))
        generator.unet.add_adapter(adapter, adapter_name="trcgl")
    return generator.unet
