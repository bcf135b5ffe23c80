"""`trcgl train-generator DATASET --out GENERATOR`: train a diffusion model of radiographs with given findings.

Stages, each of which resumes where it stopped:

1. `autoencoder`: only if the recipe has a VAE from scratch.
2. `network`: the U-Net (and the text encoder, if it starts from scratch) on all training rows, class-balanced.
3. `context`: the context tokens; everything else is frozen.
"""

import datetime
import os
import shutil
from contextlib import nullcontext
from itertools import compress
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trcgl.core import storage
from trcgl.core.errors import RecipeError
from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.lock import locked
from trcgl.core.randomness import derive_seed
from trcgl.core.recipe import differences, from_json, to_json
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.generate import folder, pipeline
from trcgl.generate.autoencoder import measure_scale
from trcgl.generate.base_patients import describe_base, write_patients
from trcgl.generate.fitting import fit_stage
from trcgl.generate.latent_cache import latent_cache
from trcgl.generate.stages import Autoencoder, Diffusion, Stage
from trcgl.generate.training_rows import training_rows
from trcgl.model.folder import load_model
from trcgl.model.tensors import at_size
from trcgl.training.batches import SplitRows
from trcgl.training.launch import Launch, launched
from trcgl.training.stop import StopRequest, stop_signals
from trcgl.training.trainer import on_gpu, say

SCHEMA = "trcgl.generator-run/1"
_MEASURED, _PIXELS = 512, 2**22  # largest numbers of images and pixels that the latent scale is measured on


def train_generator(dataset: Path, recipe: GeneratorRecipe, out: Path, *, split: str = "train") -> dict[str, Any]:
    """Train a generator on the train patients of a dataset; the same call again resumes with the same weights.

    Raises:
        Interrupted: a signal asked to stop; the state is saved.
    """
    dataset, out = Path(dataset), Path(out)
    check(recipe)
    opened = open_dataset(dataset)
    rows = training_rows(opened, split)
    # Check everything before the folder is claimed, so that a corrected command can claim it.
    generator = None if (out / "generator.json").exists() else _begin(recipe, opened, rows)
    launch = launched(recipe.fit.devices, recipe.fit.nodes, gpu=on_gpu(recipe.fit.accelerator), option="--fit.")
    with nullcontext() if launch.rank else locked(out):
        if not launch.rank:
            _claim(dataset, recipe, out)
        if generator is None:
            say(f"{out} is finished. Next: trcgl synthesize {out} --dataset {dataset} --screener RUN --out SYNTHETIC")
            return storage.read_json(out / "generator.json")
        with stop_signals() as request:
            return _train(generator, opened, rows, recipe, out, request, launch)


def check(recipe: GeneratorRecipe) -> None:
    """Check the settings of a recipe."""
    unet, text = recipe.unet, recipe.text
    least = dict.fromkeys(("image_size", "fit.steps", "fit.batch_size", "autoencoder.factor"), 1)
    least |= dict.fromkeys(("fit.context_steps", "fit.clip_gradient", "fit.save_steps", "fit.grid_every"), 0)
    least |= dict.fromkeys(("fit.workers", "context.shared", "context.per_finding", "autoencoder.steps"), 0)
    shares = ("fit.replay", "fit.tail", "diffusion.label_dropout")
    below_one = ("fit.ema", "diffusion.caption_dropout", "augment.scale")
    for path, holds, wanted in (
        *((path, attrgetter(path)(recipe) >= value, f"at least {value}") for path, value in least.items()),
        *((path, 0 <= attrgetter(path)(recipe) <= 1, "between 0 and 1") for path in shares),
        *((path, 0 <= attrgetter(path)(recipe) < 1, "at least 0 and below 1") for path in below_one),
        ("diffusion.min_snr", recipe.diffusion.min_snr >= 0, "at least 0 (0 switches it off)"),
        ("diffusion.log_snr_std", recipe.diffusion.log_snr_std >= 0, "at least 0 (0 trains all levels equally)"),
        ("augment.erasing", recipe.augment.erasing == 0, "0: synthetic images would have erased rectangles"),
        ("augment.mixup", recipe.augment.mixup == 0, "0: synthetic images would be mixtures"),
        ("fit.devices", recipe.fit.devices == "auto" or recipe.fit.devices >= 1, "auto, or at least 1"),
        ("autoencoder.width", recipe.autoencoder.width >= 16 and not recipe.autoencoder.width % 16, "16, 32, 48, ..."),
        (
            "unet.widths",
            recipe.base is not None or not any(width % 16 or width % unet.head_width for width in unet.widths),
            f"multiples of 16 and of unet.head_width, {unet.head_width}",
        ),
        ("text.heads", text.heads >= 1 and not text.width % text.heads, "a divisor of text.width"),
        ("unet.lora_rank", recipe.base is not None or not unet.lora_rank, "0 without a --base to adapt"),
    ):
        if not holds:
            raise RecipeError(f"{path} is {attrgetter(path)(recipe)}; it must be {wanted}.")


def _begin(recipe: GeneratorRecipe, opened: Dataset, rows: SplitRows) -> pipeline.Generator:
    """The generator before training; its text encoder can read the prompt of every training row.

    Raises:
        DataError: the prompt of a single finding is too long.
    """
    describe_base(recipe, opened)  # refuses a base that has seen patients of val or test
    generator = (folder.load_base if recipe.base else pipeline.build)(recipe, opened.space)
    generator.context.enabled = recipe.context.placement != "none"
    positives = (rows.labels == 1).sum(0).tolist()
    generator.positives = dict(zip(opened.space.findings, positives, strict=True))
    for finding in opened.space.findings:
        for view in set(rows.views):
            generator.ids(generator.prompts.prompt((finding,), view))
    counts = _prompt_counts(generator, rows)
    if counts["shortened_images"]:
        say(
            f"{counts['shortened_images']:,} of {counts['images']:,} training images have prompts of more than "
            f"{generator.longest} tokens ({counts['shortened_label_sets']} of {counts['label_sets']:,} label sets): "
            "their most frequent findings are left out of the prompt"
        )
    return generator


def _prompt_counts(generator: pipeline.Generator, rows: SplitRows) -> dict[str, Any]:
    """The entry `prompts` of `generator.json`: how many label sets were too long for the text encoder."""
    space, prompts = generator.space, generator.prompts
    label_sets = [tuple(compress(space.findings, labels)) for labels in rows.labels == 1]
    shortened = {
        (findings, view)
        for findings, view in {*zip(label_sets, rows.views, strict=True)}
        if {*findings} - {space.normal, *prompts.shortened(findings, view)}
    }
    return {
        "views": generator.views,
        "longest": generator.longest,
        "label_sets": len({*label_sets}),
        "shortened_label_sets": len({findings for findings, _ in shortened}),
        "images": len(rows),
        "shortened_images": sum(key in shortened for key in zip(label_sets, rows.views, strict=True)),
    }


def _train(
    generator: pipeline.Generator,
    opened: Dataset,
    rows: SplitRows,
    recipe: GeneratorRecipe,
    out: Path,
    request: StopRequest,
    launch: Launch,
) -> dict[str, Any]:
    for part in (generator.vae, generator.text_encoder, generator.unet, generator.context):
        part.requires_grad_(False)

    cache = None

    def fit(kind: type[Stage], name: str, steps: int, rate: float, *trained: torch.nn.Module, **more: Any) -> None:
        stage = kind(generator, recipe, rows, name=name, steps=steps, rate=rate, trained=trained, **more)
        if isinstance(stage, Diffusion):
            stage.grids, stage.cache = out / "samples", cache
        fit_stage(stage, name, out / "training" / name, steps, recipe.fit, request, launch)
        generator.to("cpu")  # Lightning moves back only the trained parts
        for part in trained:
            part.requires_grad_(False)

    if recipe.autoencoder.kind == "vae" and recipe.autoencoder.steps and not recipe.base:
        settings, run = recipe.autoencoder, recipe.autoencoder.features
        features = load_model(Path(run) / "model").network.backbone if run else None
        vae = generator.vae.requires_grad_(True)
        fit(Autoencoder, "autoencoder", settings.steps, settings.lr, vae, features=features)
    if not (recipe.base and recipe.autoencoder.keep_scale):
        measure_scale(generator.vae, _some_images(opened, recipe))

    digest = storage.sha256_file(opened.folder / "dataset.json")
    cache = latent_cache(_latents(out), generator.vae, recipe, digest, len(rows), first=not launch.rank)

    trained: tuple[torch.nn.Module, ...] = (pipeline.adapt(generator, recipe),)
    if not recipe.base:
        trained += (generator.text_encoder.requires_grad_(True),)
    if recipe.fit.gradient_checkpointing:
        generator.unet.enable_gradient_checkpointing()
    has_tokens = recipe.context.placement != "none"
    generator.context.enabled = has_tokens and not recipe.fit.context_steps
    if generator.context.enabled:
        trained += (generator.context.requires_grad_(True),)
    slowed = tuple((part, recipe.text.rate) for part in pipeline.text_modules(generator))
    fit(Diffusion, "network", recipe.fit.steps, recipe.fit.lr, *trained, slowed=slowed)

    if has_tokens and recipe.fit.context_steps:
        generator.context.enabled = True
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(recipe.seed, "context tokens"))
            folder.start_context(generator)
        tokens = generator.context.requires_grad_(True)
        fit(Diffusion, "context", recipe.fit.context_steps, recipe.fit.context_lr, tokens)
    return {} if launch.rank else _finish(generator, opened, rows, recipe, out)


def _finish(
    generator: pipeline.Generator, opened: Dataset, rows: SplitRows, recipe: GeneratorRecipe, out: Path
) -> dict[str, Any]:
    base = describe_base(recipe, opened)
    license = f"Adapted from {recipe.base}: its license applies (CreativeML Open RAIL-M for Stable Diffusion 1.x)."
    if not recipe.base:
        license = "Trained from scratch: only the license of the training images applies."
    elif base.get("license"):
        license = f"Adapted from {recipe.base}. {base['license']}"
    shutil.rmtree(_latents(out), ignore_errors=True)
    patient_digest = storage.digest(opened.split("train")["patient_id"].unique().to_list())
    write_patients(out, opened, patient_digest, recipe)
    info = folder.save(
        generator,
        out,
        recipe,
        dataset=os.path.relpath(opened.folder.resolve(), out.resolve()),
        dataset_digest=storage.sha256_file(opened.folder / "dataset.json"),
        base=base,
        training_patient_digest=patient_digest,
        training_images=len(rows),
        training_positives=dict(generator.positives),
        prompts=_prompt_counts(generator, rows),
        license=license,
        command=storage.command(),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    say(f"{out} is finished. Next: trcgl synthesize {out} --dataset {opened.folder} --screener RUN --out SYNTHETIC")
    return info


def _latents(out: Path) -> Path:
    """Folder of the cached latents."""
    return out / "training" / "latents"


def _claim(dataset: Path, recipe: GeneratorRecipe, out: Path) -> None:
    """Claim the folder for this recipe and this dataset."""

    def explain(stored: str) -> str:
        return "; ".join(differences(from_json(stored, GeneratorRecipe), recipe))

    started = storage.claim(out, "recipe.json", to_json(recipe), explain)
    digest = storage.sha256_file(dataset / "dataset.json")
    if not started or not (out / "run.json").exists():
        storage.write_json(out / "environment.json", storage.environment())
        storage.write_json(out / "run.json", {"schema": SCHEMA, "dataset_digest": digest, "command": storage.command()})
    if storage.read_json(out / "run.json")["dataset_digest"] != digest:
        raise RecipeError(f"{out} was trained on another dataset, or {dataset} has changed. Choose another --out.")


def _some_images(opened: Dataset, recipe: GeneratorRecipe) -> torch.Tensor:
    """Images (n, 1, H, W) in [-1, 1], evenly spaced over all training rows."""
    rows = opened.split("train")["row"].to_numpy()
    count = min(_MEASURED, max(1, _PIXELS // recipe.image_size**2), len(rows))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))]
    images = at_size(torch.from_numpy(opened.require_images()[rows]), recipe.image_size)
    return images[:, None].float() / 127.5 - 1
