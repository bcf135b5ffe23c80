"""The steps of the tour. Each step does exactly what its printed commands do."""

import os
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from trcgl.core import storage
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.write_errors import writing
from trcgl.recipes import GENERATORS, RECIPES

if TYPE_CHECKING:
    from trcgl.core.generator_recipe import GeneratorRecipe
    from trcgl.core.recipe import Recipe

SCHEMA = "trcgl.demo/3"
SCANS = 6


@dataclass(frozen=True)
class DemoSize:
    """Size of the tour; the defaults take minutes on two cores. Steps are steps of the optimizer."""

    train_images: int = 1600
    positives_per_finding: int = 25
    """Smallest number of positives of a finding in val and in test."""
    pixels: int = 64
    epochs: int = 5
    generator_steps: int = 360
    context_steps: int = 40
    synthetic: int = 24
    """Synthetic images per tail finding; as many normal and head images are generated."""
    targets: tuple[str, ...] = ()
    """Findings to generate; the tail if empty."""
    auditor_images: int = 1200
    """Training phantoms of the auditor, with more of the tail, so that it recognizes tail findings."""


FOLDERS = ("phantom", "real", "generator", "synthetic", "others", "auditor", "audit", "with-synthetic", "scans")
"""Folders that the tour writes in `--out`."""


def demo(out: Path, size: DemoSize | None = None) -> dict[str, Any]:
    """Run every stage on phantoms and write a page that says whether synthetic images helped.

    Everything is written to `out`; the same call again resumes.

    Returns:
        The commands, the page, test means of both runs and their difference, the verdicts of the audit, seconds, and
        the summary as text (`tour`).
    """
    from trcgl.audit.audit import AuditOptions, audit
    from trcgl.dataset.describe import describe
    from trcgl.dataset.prepare import PrepareOptions, prepare
    from trcgl.dataset.sources import phantom
    from trcgl.demo.page import write_page
    from trcgl.evaluate.compare import compare
    from trcgl.evaluate.evaluate import evaluate_run
    from trcgl.generate.synthesize import SynthesizeOptions, synthesize
    from trcgl.generate.train_generator import train_generator
    from trcgl.predict.predict import predict
    from trcgl.predict.scores import as_text
    from trcgl.training.train import train

    size, started, out = size or DemoSize(), time.monotonic(), Path(out)
    at = {name: out / name for name in FOLDERS}
    classifier, generator = _classifier(size), _generator(size)
    steps = _Steps(_commands(out, at, size))
    prepared = PrepareOptions(size=size.pixels)
    plain = phantom.Options(positives_per_finding=size.positives_per_finding, size=size.pixels, boxes=False)

    steps.begin("render phantoms whose findings are known, and describe their long tail")
    phantoms = prepare("phantom", None, at["phantom"], prepared, replace(plain, train_images=size.train_images))
    described = describe(at["phantom"])

    steps.begin("train a classifier; the best epoch is selected on val")
    train(at["phantom"], classifier, at["real"])

    steps.begin("train a diffusion model that generates a radiograph of any given finding")
    train_generator(at["phantom"], generator, at["generator"])

    steps.begin("generate images of the tail findings; the classifier screens them")
    settings = SynthesizeOptions(targets=size.targets, each=size.synthetic, precision="bf16", devices=1)
    synthesized = synthesize(at["generator"], at["phantom"], at["real"], at["synthetic"], settings)

    steps.begin("train an auditor: another classifier, on phantoms of other patients")
    others = replace(plain, train_images=size.auditor_images, imbalance=4.0, seed=1)
    prepare("phantom", None, at["others"], prepared, others)
    train(at["others"], classifier, at["auditor"])
    evaluate_run(at["auditor"], split="val")

    steps.begin("audit: do synthetic images show their finding, and are they memorized copies?")
    few = AuditOptions(each=size.synthetic, sweep_each=0, handwritten_each=0)
    audited = audit(at["synthetic"], at["phantom"], at["auditor"], at["generator"], at["audit"], few)

    steps.begin("train on real and synthetic images together, for the same number of steps")
    train(at["phantom"], classifier, at["with-synthetic"], at["synthetic"])

    steps.begin("evaluate both on test, with intervals over patients, and compare them")
    evaluations = {"real": evaluate_run(at["real"]), "synthetic": evaluate_run(at["with-synthetic"])}
    compared = compare([at["real"], at["with-synthetic"]])

    steps.begin("score a folder of image files")
    _write_scans(at["scans"], at["phantom"])
    table = out / "scores.csv"
    storage.write_text(table, as_text(predict(at["real"], [at["scans"]]), "csv"))

    result: dict[str, Any] = {
        "schema": SCHEMA,
        "commands": steps.commands,
        "report": str(out / "report.html"),
        "images": phantoms["counts"]["images"],
        "synthetic": synthesized["counts"],
        "test": {
            name: {metric: evaluation["overall"][metric] for metric in ("mAP", "mAUC")}
            | {group: means["mAP"] for group, means in evaluation["groups"].items()}
            for name, evaluation in evaluations.items()
        },
        "tail": compared["comparisons"][0]["groups"]["tail"]["mAP"],
        "audit": {finding: entry["verdict"]["word"] for finding, entry in audited["findings"].items()},
        "phantom": "These images are rendered, not taken of patients. Nothing here is clinical evidence.",
    }
    result["answer"] = write_page(out, result, described, synthesized, audited, compared)
    result["seconds"] = round(time.monotonic() - started, 1)
    return result | {"tour": _tour(result, table)}


def _classifier(size: DemoSize) -> "Recipe":
    recipe = RECIPES["phantom"]()
    train = replace(recipe.train, epochs=size.epochs, devices=1)
    return replace(recipe, model=replace(recipe.model, image_size=size.pixels), train=train)


def _generator(size: DemoSize) -> "GeneratorRecipe":
    recipe = GENERATORS["generator_phantom"]()
    fit = replace(recipe.fit, steps=size.generator_steps, context_steps=size.context_steps, grid_every=0, devices=1)
    return replace(recipe, image_size=size.pixels, fit=fit)


def _commands(out: Path, at: dict[str, Path], size: DemoSize) -> list[list[str]]:
    """The commands of each step."""
    phantom, real, generator, synthetic, others, auditor, audit, with_synthetic, scans = (
        shlex.quote(str(at[name])) for name in FOLDERS
    )
    phantoms = (
        f"--size {size.pixels} --source.size {size.pixels} "
        f"--source.positives-per-finding {size.positives_per_finding} --source.no-boxes"
    )
    targets = f" --targets {shlex.join(size.targets)}" if size.targets else ""
    settings = f"--model.image-size {size.pixels} --train.epochs {size.epochs} --train.devices 1"
    return [
        [
            f"trcgl prepare phantom --out {phantom} {phantoms} --source.train-images {size.train_images}",
            f"trcgl describe {phantom}",
        ],
        [f"trcgl train {phantom} --recipe phantom --out {real} {settings}"],
        [
            f"trcgl train-generator {phantom} --recipe generator_phantom --out {generator} "
            f"--image-size {size.pixels} --fit.steps {size.generator_steps} "
            f"--fit.context-steps {size.context_steps} --fit.grid-every 0 --fit.devices 1"
        ],
        [
            f"trcgl synthesize {generator} --dataset {phantom} --screener {real} --out {synthetic} "
            f"--each {size.synthetic} --precision bf16 --devices 1{targets}"
        ],
        [
            f"trcgl prepare phantom --out {others} {phantoms} --source.train-images {size.auditor_images} "
            "--source.imbalance 4 --source.seed 1",
            f"trcgl train {others} --recipe phantom --out {auditor} {settings}",
            f"trcgl evaluate {auditor} --split val",
        ],
        [
            f"trcgl audit {synthetic} --dataset {phantom} --auditor {auditor} --generator {generator} "
            f"--out {audit} --each {size.synthetic} --sweep-each 0 --handwritten-each 0"
        ],
        [f"trcgl train {phantom} --recipe phantom --out {with_synthetic} --synthetic {synthetic} {settings}"],
        [f"trcgl evaluate {real}", f"trcgl evaluate {with_synthetic}", f"trcgl compare {real} {with_synthetic}"],
        [f"trcgl predict {real} {scans} > {shlex.quote(str(out / 'scores.csv'))}"],
    ]


class _Steps:
    """Prints on stderr which step begins, and its commands."""

    def __init__(self, steps: list[list[str]]) -> None:
        self.commands = [command for step in steps for command in step]
        self._steps, self._count = enumerate(steps, 1), len(steps)

    def begin(self, title: str) -> None:
        number, commands = next(self._steps)
        lines = [f"\n[{number}/{self._count}] {title}", *(f"    $ {command}" for command in commands)]
        print("\n".join(lines), file=sys.stderr, flush=True)


def _write_scans(folder: Path, data: Path) -> None:
    """Write a few radiographs of the test split as PNG files."""
    from PIL import Image

    from trcgl.dataset.sources.phantom import options_of, render_again
    from trcgl.dataset.store import open_dataset

    test = open_dataset(data).split("test")
    options = options_of(data)
    with writing(folder):
        folder.mkdir(exist_ok=True)
        for image_id in test["image_id"].head(SCANS):
            Image.fromarray(render_again(image_id, options).pixels).save(folder / f"{image_id}.png")


def _tour(result: dict[str, Any], table: Path) -> str:
    from trcgl.metrics.summary import value_text

    scores = pl.read_csv(table)
    findings = [name.removeprefix("score/") for name in scores.columns if name.startswith("score/")]
    first = scores.row(0, named=True)
    likeliest = max(findings, key=lambda finding: first[f"score/{finding}"])
    counts, real, synthetic = result["synthetic"], result["test"]["real"], result["test"]["synthetic"]
    names = {"mAP": "mAP", "mAUC": "mAUC", "head": "head mAP", "medium": "medium mAP", "tail": "tail mAP"}
    verdicts = ", ".join(f"{finding}: {word}" for finding, word in result["audit"].items())
    lines = [
        "",
        f"Done in {result['seconds']:.0f} s: {result['images']:,} phantoms; screening kept {counts['kept']:,} of "
        f"{counts['generated']:,} synthetic images.",
        "",
        f"On the test split (95 % interval over patients){'':<6}{'real alone':<26}real and synthetic",
        *(f"  {names[key]:<12}{'':<40}{value_text(real[key]):<26}{value_text(synthetic[key])}" for key in names),
        "",
        result["answer"],
        f"The audit: {verdicts}.",
        "",
        f"  {result['report']:<32} the report: open it in a browser",
        f"  {os.fspath(table):<32} scores of {scores.height} files; highest score of the first file: {likeliest}",
        "",
        "The same by hand:",
        *(f"  {command}" for command in result["commands"]),
        "",
        f"{result['phantom']} {RESEARCH_USE}",
        "Your own radiographs: trcgl prepare table --help",
    ]
    return "\n".join(lines)
