"""`trcgl synthesize GENERATOR --dataset DATASET --screener RUN --out SYNTHETIC`: plan, draw, screen.

The folder that it writes is a dataset folder with `provenance.parquet` beside the manifest, `dataset.json` last. The
same command again resumes: no image is drawn twice.
"""

import dataclasses
import hashlib
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from lightning.fabric.utilities.rank_zero import _get_rank

from trcgl.core import storage
from trcgl.core.errors import RecipeError
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.progress import track
from trcgl.dataset import manifest as manifests
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import SCHEMA, Dataset, check_space, open_dataset, write_images
from trcgl.dataset.synthetic_rows import current_options
from trcgl.evaluate.evaluate import score_rows
from trcgl.generate import screen as screening
from trcgl.generate.context import PromptKind
from trcgl.generate.inputs import open_generator, open_screener
from trcgl.generate.pipeline import Generator
from trcgl.generate.plan import balancing, guided, plan
from trcgl.generate.sampling_run import Parts, SamplingSettings, launch, prepare_network, prompts_of, sample_parts
from trcgl.generate.solver import GUIDED_TO, Solver
from trcgl.generate.synthesis_report import describe_synthesis, write_page
from trcgl.metrics.calibrate import calibrated
from trcgl.model.folder import LoadedModel

SETTINGS_SCHEMA = "trcgl.synthesize/1"
_NO_BALANCE = (
    "The label space has neither a normal label nor a head finding, so nothing was drawn beside the targets. A "
    "classifier that trains with these images may learn that drawn means rare."
)


@dataclass(frozen=True)
class SynthesizeOptions:
    """What to draw, how, and where."""

    targets: tuple[str, ...] = ()
    """Findings to draw for; the tail where none is named. As many normal and head images are drawn beside them."""
    count: int | None = None
    """Draw up to so many training images of a target, real and drawn together."""
    dose: float | None = None
    """Draw so many times the real training images of a target; 1 where neither --count nor --each is given."""
    each: int | None = None
    """Draw exactly so many images of each target; an audit draws what it lacks of its own 200."""
    prompt: PromptKind = "learned"
    """`learned`: words and all context tokens. `handwritten`: words alone. `shared_tokens` and `per_finding_tokens`:
    words and these tokens alone."""
    guidance: float = 5.0
    """Scale of classifier-free guidance; 1 switches it off."""
    guidance_for: dict[str, float] = dataclasses.field(default_factory=dict)
    """Targets that need another scale, each followed by it; an audit's guidance sweep shows which gain."""
    guided_to: float = GUIDED_TO
    """Log-SNR up to which guidance steers: what is shown is decided by then. 20 steers to the end."""
    steps: int = 20
    """Denoising steps."""
    solver: Solver = "dpm++2m"
    """`dpm++2m` (DPM-Solver++, second order) or `ddim`."""
    batch_size: int = 64
    """Images that are drawn at once on each device. Changes nothing in the result but its rounding."""
    seed: int = 0
    """Of label sets and images."""
    precision: Literal["32-true", "bf16"] = "32-true"
    """Of the network; guidance and solver are always in float32."""
    devices: int | Literal["auto"] = "auto"
    """On each node. Under torchrun its own number holds."""
    nodes: int = 1
    """Machines."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to draw."""
    compile: bool = False
    """Compile the network: minutes at the start, faster from then on."""
    unscreened: bool = False
    """Keep every image, without a screening classifier."""

    def __post_init__(self) -> None:
        for name, holds, wanted in (
            ("guidance", _is_scale(self.guidance), "at least 0"),
            ("guidance-for", all(map(_is_scale, self.guidance_for.values())), "at least 0"),
            ("guided-to", math.isfinite(self.guided_to), "a number"),
            ("steps", 1 <= self.steps <= 1000, "between 1 and 1000"),
            ("batch-size", self.batch_size >= 1, "at least 1"),
            ("devices", self.devices == "auto" or self.devices >= 1, "auto, or at least 1"),
            ("nodes", self.nodes >= 1, "at least 1"),
        ):
            if not holds:
                raise RecipeError(f"--{name} {getattr(self, name.replace('-', '_'))}: it must be {wanted}.")


def synthesize(
    generator_folder: Path,
    dataset_folder: Path,
    screener_run: Path | None,
    out: Path,
    options: SynthesizeOptions | None = None,
) -> dict[str, Any]:
    """Draw radiographs into a synthetic folder, and screen them; the same call again resumes.

    Args:
        generator_folder: written by `trcgl train-generator` on the dataset.
        dataset_folder: the real dataset.
        screener_run: a run that was trained on the dataset's real rows alone; None with `unscreened`.
        out: the synthetic folder; it must be new, empty, or an interrupted one of the same settings.
        options: every setting.

    Returns:
        The content of `report.json`; on other processes than the first, nothing.

    Raises:
        DataError: dataset, generator and screener do not belong together, a target cannot be drawn, or the disk is
            full.
        CheckpointError: the generator or the screener is missing, half-written or damaged.
        RecipeError: a setting makes no sense, or `out` holds something else.
    """
    options, out = options or SynthesizeOptions(), Path(out)
    if options.count is options.dose is options.each is None:
        options = dataclasses.replace(options, dose=1.0)
    if options.unscreened != (screener_run is None):
        raise RecipeError("name the classifier that screens with --screener RUN, or keep every image by --unscreened.")
    dataset = open_dataset(Path(dataset_folder))
    real = dataset.require_images()
    wanted = plan(
        dataset, options.targets, count=options.count, dose=options.dose, each=options.each, seed=options.seed
    )
    wanted = guided(wanted, options.guidance, options.guidance_for)
    generator = open_generator(Path(generator_folder), dataset)
    generator.context.restrict(options.prompt)
    screener = None if screener_run is None else open_screener(Path(screener_run), dataset)
    _check_prompts(generator, wanted)

    settings = _settings(options, dataset, generator, screener)
    first = not _get_rank()
    if first:
        storage.claim_settings(out, "synthesize.json", settings, current_options)
    parts = Parts(out / "parts", wanted.height)
    if (out / "dataset.json").exists():
        if first:
            parts.clear()  # where a process was killed between its last two deeds
        return storage.read_json(out / "report.json")
    if first:
        for unfinished in (*out.glob(".*.part"), *parts.folder.glob(".*.part")):  # of a killed process
            unfinished.unlink()
        check_space(out, wanted.height, real.shape[1], "draw fewer")
    if _draw(generator, wanted, parts, real.shape[1], options):
        folders = {"generator_folder": _from(out, generator_folder), "screener_folder": _from(out, screener_run)}
        return _finish(out, wanted, parts, dataset, generator, screener, options, folders)
    return {}


def _draw(generator: Generator, wanted: pl.DataFrame, parts: Parts, side: int, options: SynthesizeOptions) -> bool:
    """Draw what is missing, shared among the processes; return whether this is the first of them."""
    fabric = launch(options.devices, options.nodes, options.accelerator)
    todo = fabric.broadcast(parts.missing())
    mine = todo[fabric.global_rank :: fabric.world_size]
    if mine:
        prepare_network(generator, fabric.device, options.precision, options.compile)
    if generator.image_size != side and fabric.is_global_zero:
        _say(f"images are drawn at {generator.image_size} pixels and resized to the dataset's {side}")
    how = SamplingSettings(side, options.steps, options.guided_to, options.solver, options.batch_size)
    drawn = sample_parts(generator, wanted, parts, mine, how)
    if fabric.is_global_zero:
        several = f", process 1 of {fabric.world_size}" if fabric.world_size > 1 else ""
        images = sum(len(parts.rows(part)) for part in mine)
        drawn = track(drawn, images, f"drawing radiographs{several}", unit="images")
    for _ in drawn:
        pass
    fabric.barrier()
    return fabric.is_global_zero


def _finish(
    out: Path,
    wanted: pl.DataFrame,
    parts: Parts,
    dataset: Dataset,
    generator: Generator,
    screener: LoadedModel | None,
    options: SynthesizeOptions,
    folders: dict[str, str | None],
) -> dict[str, Any]:
    """Assemble, screen, and write everything else, `dataset.json` last."""
    side, space = dataset.require_images().shape[1], dataset.space
    write_images(out / "images.npy", map(parts.read, range(len(parts))), wanted.height, side)
    images = np.load(out / "images.npy", mmap_mode="r")
    manifest = _manifest(wanted, images, space)
    drawn = Dataset(out, {"name": out.resolve().name, "fit": dataset.info["fit"]}, space, manifest, images, None)
    judged, checks = _screen(drawn, wanted["target"].to_list(), dataset, screener)
    provenance = pl.concat(
        [
            wanted.select("image_id", "source_image_id", "target", "prompt", "seed", "guidance"),
            pl.select(
                guided_to=pl.repeat(options.guided_to, wanted.height, dtype=pl.Float64),
                steps=pl.repeat(options.steps, wanted.height, dtype=pl.Int64),
                solver=pl.repeat(options.solver, wanted.height, dtype=pl.String),
                generator=pl.repeat(generator.info["digest"], wanted.height, dtype=pl.String),
            ),
            judged,
        ],
        how="horizontal",
    )
    for name, frame in (("manifest.parquet", manifest), ("provenance.parquet", provenance)):
        with storage.atomic(out / name) as aside:
            frame.write_parquet(aside)
    notes = [] if balancing(space) else [_NO_BALANCE]
    asked = {**dataclasses.asdict(options), "targets": list(options.targets)}
    report = describe_synthesis(dataset, provenance, checks, asked, notes)
    storage.write_json(out / "report.json", report)
    write_page(out, report, images, provenance, phantom=dataset.info["source"] == "phantom")
    files = ("images.npy", "manifest.parquet", "provenance.parquet", "report.json", "report.html")
    patients = manifest["patient_id"].unique().to_list()
    nobody = {"images": 0, "patients": 0, "patient_digest": storage.digest([])}
    everyone = {"images": manifest.height, "patients": len(patients), "patient_digest": storage.digest(patients)}
    license = " ".join(filter(None, (dataset.info.get("license"), generator.info.get("license"))))
    info = {
        "schema": SCHEMA,
        "name": drawn.name,
        "source": "synthetic",
        "label_space": space.to_dict(),
        "image_size": side,
        "fit": dataset.info["fit"],
        "pixel_rule": "drawn, 8 bits",
        "counts": report["counts"],
        "splits": {"train": everyone, "val": nobody, "test": nobody},
        "files": {
            name: {"bytes": (out / name).stat().st_size, "sha256": storage.sha256_file(out / name)} for name in files
        },
        "synthetic": {
            "dataset": dataset.name,
            "dataset_digest": storage.sha256_file(dataset.folder / "dataset.json"),
            "generator": generator.info["digest"],
            "screener": screener.info["weights_sha256"] if screener else None,
            **folders,
            "options": report["options"],
            "environment": storage.environment(),
        },
        "license": license,
        "notes": notes,
        "research_use": RESEARCH_USE,
    }
    storage.write_json(out / "dataset.json", info)
    parts.clear()
    return report


def _screen(
    drawn: Dataset, targets: list[str], dataset: Dataset, screener: LoadedModel | None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Scores and verdicts, and by which limits and rules."""
    if screener is None:
        return screening.unscreened(len(targets)), {"limits": {}, "rules": {}}
    train, val = dataset.split("train"), dataset.split("val")
    temperature = screener.temperature or 1.0
    score = calibrated(score_rows(screener, dataset, val["row"].to_numpy()), temperature)
    truth, weight = manifests.label_array(val, dataset.space), val["weight"].to_numpy()
    rules = screening.label_rules(targets, score, truth, dataset.space, weight)
    reference = screening.measure(dataset.require_images(), train["row"].to_numpy(), train["patient_id"].to_list())
    score = calibrated(score_rows(screener, drawn, np.arange(len(targets))), temperature)
    judged = screening.screen(drawn.require_images(), targets, score, rules, reference, dataset.space)
    return judged, {
        "limits": reference.limits,
        "rules": {target: rule.to_dict() for target, rule in rules.items()},
    }


def _manifest(wanted: pl.DataFrame, images: np.ndarray, space: LabelSpace) -> pl.DataFrame:
    """What was asked for is present; all else is unknown, unless the image was asked to be normal."""
    normal = pl.col("findings").list.contains(space.normal or "")
    labels = {
        one: pl.when(pl.col("findings").list.contains(one)).then(1).when(normal).then(0).cast(pl.Int8)
        for one in space.findings
    }
    empty = {name: pl.lit(None, kind) for name, kind in manifests.SCHEMA.items() if name not in wanted.columns}
    known: dict[str, Any] = {
        "split": pl.lit("train"),
        "label_source": pl.lit("synthetic"),
        "sha256": pl.Series([hashlib.sha256(image.tobytes()).hexdigest() for image in images], dtype=pl.String),
        "row": pl.int_range(pl.len(), dtype=pl.Int64),
        "weight": pl.lit(1.0),
        **labels,
    }
    return manifests.validate(wanted.select("image_id", "patient_id", **{**empty, **known}), space, where="plan")


def _check_prompts(generator: Generator, wanted: pl.DataFrame) -> None:
    """Every label set fits into the text encoder, known before the first image is drawn."""
    for one in prompts_of(generator, wanted.unique("findings", maintain_order=True)):
        generator.ids(one)


def _settings(
    options: SynthesizeOptions, dataset: Dataset, generator: Generator, screener: LoadedModel | None
) -> dict[str, Any]:
    """Everything that decides the images and their verdicts."""
    shared = dataclasses.asdict(options)
    for hardware in ("batch_size", "devices", "nodes", "accelerator", "compile"):
        del shared[hardware]
    return {
        "schema": SETTINGS_SCHEMA,
        **shared,
        "dataset": storage.sha256_file(dataset.folder / "dataset.json"),
        "generator": generator.info["digest"],
        "screener": screener.info["weights_sha256"] if screener else None,
    }


def _is_scale(guidance: float) -> bool:
    return math.isfinite(guidance) and guidance >= 0


def _from(out: Path, folder: Path | None) -> str | None:
    """Where a folder lies, seen from the synthetic folder: the audit looks there."""
    return None if folder is None else os.path.relpath(Path(folder).resolve(), out.resolve())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
