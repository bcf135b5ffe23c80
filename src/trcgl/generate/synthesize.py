"""`trcgl synthesize GENERATOR --dataset DATASET --screener RUN --out SYNTHETIC`: plan, sample, screen, write.

The result is a dataset folder with `provenance.parquet` beside the manifest. The same command again resumes: no image
is sampled twice.
"""

import dataclasses
import math
import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import UInt8
from lightning.fabric.plugins.environments import TorchElasticEnvironment

from trcgl.core import storage
from trcgl.core.errors import RecipeError
from trcgl.core.lock import locked
from trcgl.core.progress import track
from trcgl.dataset.store import Dataset, check_space, open_dataset, write_images
from trcgl.dataset.synthetic_rows import current_options
from trcgl.generate.context import PromptKind
from trcgl.generate.inputs import open_generator, open_screener
from trcgl.generate.pipeline import Generator
from trcgl.generate.pixel_sources import ImageStart, SourceImages, with_pixel_sources
from trcgl.generate.plan import Views, guided, plan
from trcgl.generate.sampling_run import (
    ChosenPrecision,
    SamplingSettings,
    begin,
    check_prompts,
    image_parts,
    precision_for,
    prepare_network,
    read_images,
    sample_parts,
)
from trcgl.generate.screen import screen_images
from trcgl.generate.solver import DEFAULT_SOLVER, GUIDED_TO, Solver
from trcgl.generate.synthetic_folder import read_report, write_synthetic_folder
from trcgl.training.launch import Launch, launched
from trcgl.training.trainer import on_gpu

SETTINGS_SCHEMA = "trcgl.synthesize/1"
DEFAULT_STRENGTH = 0.5
_HARDWARE = ("batch_size", "devices", "nodes", "accelerator", "compile")


@dataclass(frozen=True)
class SynthesizeOptions:
    """Options of `trcgl synthesize`."""

    targets: tuple[str, ...] = ()
    """Findings to generate; default: the tail findings. As many images of Normal and head findings are added as images
    of these findings."""
    count: int | None = None
    """Training images of each finding after synthesis, real and synthetic together."""
    dose: float | None = None
    """Number of synthetic images per real training image of the finding; 1 if neither --count nor --each is given."""
    each: int | None = None
    """Synthetic images per finding."""
    views: Views = "auto"
    """Views of the real images whose label sets (findings) are used. If the prompts of the generator name views, a
    synthetic image has the view of that image. A finding without images of that view uses all its images. `auto`:
    `frontal` if the prompts name views, else `all`."""
    prompt: PromptKind = "learned"
    """Prompt: words with all context tokens (`learned`), without tokens (`handwritten`), or with one kind of tokens
    (`shared_tokens`, `per_finding_tokens`)."""
    guidance: float = 5.0
    """Guidance scale of classifier-free guidance; 1 switches guidance off."""
    guidance_for: dict[str, float] = dataclasses.field(default_factory=dict)
    """Guidance scale for single findings, as FINDING SCALE pairs."""
    guided_to: float = GUIDED_TO
    """Stop guidance above this log-SNR (20: guide to the end)."""
    steps: int = 20
    """Denoising steps."""
    solver: Solver = DEFAULT_SOLVER
    """Diffusion solver: `dpm++2m` (DPM-Solver++, second order) or `ddim`."""
    batch_size: int = 64
    """Images sampled at once on each device; changes images by rounding at most."""
    seed: int = 0
    """Random seed of the label sets and the images."""
    from_real: bool = False
    """Image-to-image: start from a real training image instead of pure noise. The image shows another patient than the
    label set, and by default not the target finding (see --source-images)."""
    strength: float | None = None
    """Noise that is added to the real images of --from-real and removed again, as a share of the noise levels (above 0,
    at most 1); a lower strength keeps more of the real image. Default: 0.5."""
    source_images: SourceImages = "without_target"
    """Real images that --from-real starts from: `without_target` (not known to have the target finding; normal images
    for Normal), `with_target` or `any`."""
    precision: ChosenPrecision = "auto"
    """Precision of the network: `32-true`, `bf16`, or `auto` for bf16 on a GPU and 32-true elsewhere; guidance and
    solver always compute in float32."""
    devices: int | Literal["auto"] = "auto"
    """Devices per node; ignored under torchrun, which sets it."""
    nodes: int = 1
    """Number of machines; ignored under torchrun, which sets it."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Device type to sample on; `auto` uses a GPU if there is one."""
    compile: bool = False
    """Compile the network: takes minutes at the start and samples faster afterwards."""
    unscreened: bool = False
    """Keep every image without screening."""

    def __post_init__(self) -> None:
        for name, holds, wanted in (
            ("guidance", _is_scale(self.guidance), "at least 0"),
            ("guidance-for", all(map(_is_scale, self.guidance_for.values())), "at least 0"),
            ("guided-to", math.isfinite(self.guided_to), "a number"),
            ("steps", 1 <= self.steps <= 1000, "between 1 and 1000"),
            ("batch-size", self.batch_size >= 1, "at least 1"),
            ("devices", self.devices == "auto" or self.devices >= 1, "auto, or at least 1"),
            ("nodes", self.nodes >= 1, "at least 1"),
            ("strength", self.strength is None or 0 < self.strength <= 1, "above 0 and at most 1"),
        ):
            if not holds:
                raise RecipeError(f"--{name} {getattr(self, name.replace('-', '_'))}: it must be {wanted}.")
        if not self.from_real and self.strength is not None:
            raise RecipeError(f"--strength {self.strength} acts on real images. Give --from-real, or leave it out.")
        if not self.from_real and self.source_images != "without_target":
            raise RecipeError(f"--source-images {self.source_images} chooses real images. Give --from-real, too.")

    def resolved(self) -> "SynthesizeOptions":
        """The options with the defaults that depend on other options or on the machine."""
        precision = precision_for(self.precision, on_gpu(self.accelerator))
        strength = DEFAULT_STRENGTH if self.from_real and self.strength is None else self.strength
        amounts_missing = self.count is self.dose is self.each is None
        dose = 1.0 if amounts_missing else self.dose
        return dataclasses.replace(self, precision=precision, strength=strength, dose=dose)


def synthesize(
    generator_folder: Path,
    dataset_folder: Path,
    screener_run: Path | None,
    out: Path,
    options: SynthesizeOptions | None = None,
) -> dict[str, Any]:
    """Generate synthetic radiographs and screen them; the same call again resumes.

    `generator_folder`: written by `trcgl train-generator` on the dataset. `screener_run`: a run that was trained on the
    dataset's real rows alone; None with `unscreened`. `out`: the synthetic folder; it must be new, empty, or of an
    interrupted call with the same settings.

    Returns:
        The content of `report.json`; an empty dict in processes other than the first.
    """
    options, out = (options or SynthesizeOptions()).resolved(), Path(out)
    if options.unscreened != (screener_run is None):
        raise RecipeError("name the classifier that screens with --screener RUN, or keep every image by --unscreened.")
    dataset = open_dataset(Path(dataset_folder))
    side = dataset.require_images().shape[1]
    generator = open_generator(Path(generator_folder), dataset)
    generator.context.restrict(options.prompt)
    if options.views == "auto":
        options = dataclasses.replace(options, views="frontal" if generator.views else "all")
    screener = None if screener_run is None else open_screener(Path(screener_run), dataset)
    record = {
        "dataset": dataset.name,
        "dataset_digest": storage.sha256_file(dataset.folder / "dataset.json"),
        "generator": generator.info["digest"],
        "base": generator.info.get("base"),
        "screener": screener.info["weights_sha256"] if screener else None,
        "generator_folder": _relative(generator_folder, out),
        "screener_folder": _relative(screener_run, out),
        "options": {**dataclasses.asdict(options), "targets": list(options.targets)},
    }

    rows = plan(
        dataset,
        options.targets,
        count=options.count,
        dose=options.dose,
        each=options.each,
        seed=options.seed,
        views=options.views,
        prompts=generator.prompts,
    )
    check_prompts(generator, rows)
    rows = guided(rows, options.guidance, options.guidance_for)
    if options.from_real:
        rows = with_pixel_sources(rows, dataset, options.source_images)
    launch = _launch(options)
    with nullcontext() if launch.rank else locked(out):
        if _is_finished(out, record, rows.height, side, launch):
            return read_report(out)
        images = _sample(generator, rows, dataset, out, options, launch)
        if images is None:  # this is not the first process
            return {}
        screening = screen_images(images, rows, dataset, screener)
        license = " ".join(filter(None, (dataset.info.get("license"), generator.info.get("license"))))
        return write_synthetic_folder(out, rows, images, screening, dataset, record, license)


def _launch(options: SynthesizeOptions) -> Launch:
    devices, nodes = options.devices, options.nodes
    if TorchElasticEnvironment.detect():  # torchrun has decided how many processes there are
        devices, nodes = "auto", 1
    return launched(devices, nodes, gpu=on_gpu(options.accelerator), option="--")


def _is_finished(out: Path, record: dict[str, Any], images: int, side: int, launch: Launch) -> bool:
    """Claim the folder and prepare it for sampling; return whether it is complete."""
    parts, finished = image_parts(out / "parts", images), (out / "dataset.json").exists()
    if launch.rank:
        return finished
    settings = {name: value for name, value in record["options"].items() if name not in _HARDWARE}
    digests = {"dataset": record["dataset_digest"], "generator": record["generator"], "screener": record["screener"]}
    storage.claim_settings(out, "synthesize.json", {"schema": SETTINGS_SCHEMA, **settings, **digests}, current_options)
    if finished:
        parts.clear()  # left by a process that was killed between its last two steps
        return True
    for unfinished in out.glob(".*.part"):
        unfinished.unlink()
    parts.remove_unfinished()
    check_space(out, images, side, "generate fewer")
    return False


def _sample(
    generator: Generator, rows: pl.DataFrame, dataset: Dataset, out: Path, options: SynthesizeOptions, launch: Launch
) -> UInt8[np.ndarray, "rows side side"] | None:
    """Sample the missing images, shared among the processes; the first process returns all images, memory-mapped."""
    fabric, side = begin(launch, options.accelerator), dataset.require_images().shape[1]
    parts = image_parts(out / "parts", rows.height)
    own = fabric.broadcast(parts.missing())[fabric.global_rank :: fabric.world_size]
    if own:
        precision = precision_for(options.precision, fabric.device.type == "cuda")
        prepare_network(generator, fabric.device, precision, options.compile)
    if generator.image_size != side and fabric.is_global_zero:
        size = f"images are generated at {generator.image_size} pixels and resized to the dataset's {side}"
        print(size, file=sys.stderr, flush=True)
    start = ImageStart.of(dataset, options.strength) if options.strength is not None else None
    settings = SamplingSettings(side, options.steps, options.guided_to, options.solver, options.batch_size, start)
    sampled = sample_parts(generator, rows, parts, own, settings)
    if fabric.is_global_zero:
        process = f", process 1 of {fabric.world_size}" if fabric.world_size > 1 else ""
        count = sum(len(parts.rows(part)) for part in own)
        sampled = track(sampled, count, f"generating images{process}", unit="images")
    for _ in sampled:
        pass
    fabric.barrier()
    if not fabric.is_global_zero:
        return None
    write_images(out / "images.npy", read_images(parts), rows.height, side)
    return np.load(out / "images.npy", mmap_mode="r")


def _relative(folder: Path | None, out: Path) -> str | None:
    """Path of a folder relative to the synthetic folder, where an audit looks for it."""
    return None if folder is None else os.path.relpath(Path(folder).resolve(), out.resolve())


def _is_scale(guidance: float) -> bool:
    return math.isfinite(guidance) and guidance >= 0
