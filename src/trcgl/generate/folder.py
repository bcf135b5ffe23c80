"""The generator folder: a diffusers pipeline directory, `context.safetensors`, and `generator.json`, written last.

Plain diffusers opens it too: `StableDiffusionPipeline.from_pretrained(folder)`, with trcgl installed where the
autoencoder is space-to-depth.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from trcgl.core import storage
from trcgl.core.errors import CheckpointError, RecipeError
from trcgl.core.folder_kind import GENERATOR, expect
from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.randomness import derive_seed
from trcgl.core.recipe import from_json
from trcgl.core.write_errors import writing
from trcgl.dataset.labels import LabelSpace, phrase
from trcgl.generate.base_parts import DOCUMENTED_BASE, check_conditions, check_parts
from trcgl.generate.context import ContextTokens, nearest
from trcgl.generate.pipeline import Generator
from trcgl.generate.prompts import EMPTY, VIEWS

SCHEMA = "trcgl.generator/1"
_PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")  # of a pipeline and of `Generator`
_UNUSED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
_BESIDE = ("training", "samples")  # folders beside those of the pipeline
_VOCABULARY = 20_000  # words compared with a token; whole vocabularies of bases take minutes


def load_base(recipe: GeneratorRecipe, space: LabelSpace) -> Generator:
    """A generator that starts from a pipeline of the kind of Stable Diffusion, with new context tokens."""
    generator = _open(str(recipe.base), recipe.revision, recipe, space)
    check_fit(generator, str(recipe.base))
    factor = 2 ** (len(generator.vae.config["block_out_channels"]) - 1)
    coarsest = factor * 2 ** (len(generator.unet.config["block_out_channels"]) - 1)
    if recipe.image_size % coarsest:
        raise RecipeError(f"image_size is {recipe.image_size}; the base generates multiples of {coarsest} pixels.")
    generator.unet.register_to_config(sample_size=recipe.image_size // factor)
    return generator


def check_fit(generator: Generator, where: str) -> None:
    """Refuse a pipeline whose parts do not fit each other."""
    unet, vae, text = generator.unet.config, generator.vae.config, generator.text_encoder.config
    attends, longest = unet["cross_attention_dim"], generator.tokenizer.model_max_length
    for what, left, right in (
        ("the U-Net takes {} latent channels, the autoencoder gives {}", unet["in_channels"], vae["latent_channels"]),
        ("the U-Net gives {} channels and takes {}", unet["out_channels"], unet["in_channels"]),
        ("the U-Net attends to text of width {}, the text encoder gives {}", attends, text.hidden_size),
        ("the tokenizer makes up to {} tokens, the text encoder reads {}", longest, text.max_position_embeddings),
    ):
        if left != right:
            raise CheckpointError(
                f"{where}: {what.format(left, right)}. trcgl adapts pipelines of the kind of Stable Diffusion, "
                f"such as {DOCUMENTED_BASE}."
            )
    predicts = generator.scheduler.config["prediction_type"]
    if predicts not in ("epsilon", "v_prediction"):
        raise CheckpointError(f"{where}: its network predicts {predicts!r}; trcgl trains 'epsilon' or 'v_prediction'.")


def save(generator: Generator, folder: Path, recipe: GeneratorRecipe, **about: Any) -> dict[str, Any]:
    """Write a generator folder; `generator.json` is written last, so that a folder that has it is complete.

    `generator`: the generator; low-rank adapters are fused into its U-Net. `about`: further fields of `generator.json`.
    """
    folder = Path(folder)
    if getattr(generator.unet, "peft_config", None):
        generator.unet.fuse_lora()
        generator.unet.unload_lora()
    with writing(folder):
        with _quiet():
            parts = {name: getattr(generator, name) for name in _PARTS}
            StableDiffusionPipeline(**parts, **_UNUSED).save_pretrained(folder, safe_serialization=True)
        with storage.atomic(folder / "context.safetensors") as aside:
            tokens = generator.context.state_dict()
            save_file({name: value.detach().cpu().contiguous() for name, value in tokens.items()}, aside)
    files = {str(path.relative_to(folder)): storage.sha256_file(path) for path in _files(folder)}
    info = {
        "schema": SCHEMA,
        "digest": storage.digest([f"{name} {value}" for name, value in files.items()]),
        "files": files,
        "recipe": dataclasses.asdict(recipe),
        "label_space": generator.space.to_dict(),
        "image_size": generator.image_size,
        "context": {"placement": generator.context.placement, "enabled": generator.context.enabled},
        **about,
        "research_use": RESEARCH_USE,
    }
    storage.write_json(folder / "context.json", context_report(generator))
    storage.write_json(folder / "generator.json", info)
    generator.info = info
    return info


def load(folder: Path, *, device: str | torch.device = "cpu") -> Generator:
    """Open a generator folder, without network access and without unpickling."""
    folder = Path(folder)
    expect(folder, GENERATOR, error=CheckpointError)
    if not (folder / "generator.json").exists():
        raise CheckpointError(
            f"{folder}: no generator.json. Its training has not finished: run the same `trcgl train-generator` command "
            "again; it resumes."
        )
    info = storage.read_json(folder / "generator.json")
    if info.get("schema") != SCHEMA:
        raise CheckpointError(f"{folder}/generator.json: schema {info.get('schema')!r}, expected {SCHEMA!r}.")
    for name, known in info["files"].items():
        path = folder / name
        if not path.exists():
            raise CheckpointError(f"{path} is missing. Copy the folder again, or train the generator again.")
        if storage.sha256_file(path) != known:
            raise CheckpointError(f"{path} is not the file that was written. Copy the folder again.")
    recipe = from_json(json.dumps(info["recipe"]), GeneratorRecipe)
    space = LabelSpace.from_dict(info["label_space"])
    generator = _open(str(folder), None, recipe, space)
    generator.positives = info.get("training_positives", {})  # versions before 0.3 shortened no prompt
    generator.context.load_state_dict(load_file(folder / "context.safetensors"))
    generator.context.enabled = info["context"]["enabled"]
    generator.info = info
    for part in (generator.text_encoder, generator.vae, generator.unet, generator.context):
        part.eval().requires_grad_(False)
    return generator.to(device)


def context_report(generator: Generator) -> dict[str, Any]:
    """The words nearest to each context token, and every prompt as it is encoded.

    Returns:
        `tokens`: for each token its nearest words with their cosines; `prompts`: for the empty prompt and for each
        finding alone the pieces as they are encoded.
    """
    space, context = generator.space, generator.context
    prompts = [EMPTY, *(generator.prompts.prompt((finding,), VIEWS[0]) for finding in space.findings)]
    report: dict[str, Any] = {
        "placement": context.placement if context.enabled else "none",
        "prompts": {prompt.text: generator.as_encoded(prompt) for prompt in prompts},
    }
    if not context.enabled:
        return report
    ends = [word.removesuffix("</w>") for word in generator.tokenizer.get_vocab() if word.endswith("</w>")]
    words = sorted(word for word in ends if word.isalpha() and len(word) > 2)[:_VOCABULARY]
    vectors = generator.word_vectors(words)
    rows = {f"[shared {place + 1}]": token for place, token in enumerate(context.shared)}
    for finding, tokens in zip(space.findings, context.of_finding, strict=True):
        rows |= {f"[{finding} {place + 1}]": token for place, token in enumerate(tokens)}
    if rows:
        near = nearest(torch.stack(list(rows.values())).detach(), vectors, words)
        report["tokens"] = {name: dict(found) for name, found in zip(rows, near, strict=True)}
    return report


@torch.no_grad()
def start_context(generator: Generator) -> None:
    """Initialize the tokens of each finding with its name, and the shared tokens with the mean of all names.

    A little noise is added, so that tokens can diverge.
    """
    vectors = generator.word_vectors([phrase(finding) for finding in generator.space.findings])
    spread, context = 0.1 * vectors.std(), generator.context
    context.shared.copy_(vectors.mean(0) + spread * torch.randn_like(context.shared))
    context.of_finding.copy_(vectors[:, None] + spread * torch.randn_like(context.of_finding))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence short progress bars, and the warning that the autoencoder is not a class of diffusers."""
    loggers = [module for module in (diffusers_logging, transformers_logging) if module.is_progress_bar_enabled()]
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    for module in loggers:
        module.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)
        for module in loggers:
            module.enable_progress_bar()


def _open(where: str, revision: str | None, recipe: GeneratorRecipe, space: LabelSpace) -> Generator:
    try:
        with _quiet():
            check_parts(where, revision)
            pipeline = StableDiffusionPipeline.from_pretrained(
                where, revision=revision, use_safetensors=True, **_UNUSED
            )
    except (OSError, ValueError, SafetensorError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"base {where!r}{f' at revision {revision!r}' if revision else ''} cannot be loaded "
            f"({str(error).strip().partition(chr(10))[0]}). Give the folder of a diffusers pipeline, or a hub id that "
            f"exists: {DOCUMENTED_BASE} does; the `runwayml` ids and `stabilityai/stable-diffusion-2*` are gone. "
            "Without network, fetch the pipeline elsewhere and give its folder."
        ) from error
    parts = pipeline.components
    check_conditions(where, parts["unet"].config, parts["scheduler"].config)
    scheduler = DDIMScheduler.from_config(parts["scheduler"].config, clip_sample=False)
    text_encoder = parts["text_encoder"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "context tokens"))
        context = ContextTokens(recipe.context, len(space.findings), text_encoder.config.hidden_size)
    return Generator(
        parts["tokenizer"], text_encoder, parts["vae"], parts["unet"], scheduler, context, space, {}, recipe.views
    )


def _files(folder: Path) -> list[Path]:
    """Files that decide the images: weights, configurations, vocabulary."""
    inside = [path for kind in ("safetensors", "json", "txt") for path in folder.glob(f"*/*.{kind}")]
    parts = [path for path in inside if path.parent.name not in _BESIDE]
    return sorted([folder / "context.safetensors", folder / "model_index.json", *parts])
