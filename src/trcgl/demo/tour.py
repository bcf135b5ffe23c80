"""The steps of the tour: each is what the printed commands do, so that a reader can go on from any of them."""

import os
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.notice import RESEARCH_USE
from trcgl.recipes import GENERATORS, RECIPES

if TYPE_CHECKING:
    from trcgl.core.generator_recipe import GeneratorRecipe
    from trcgl.core.recipe import Recipe

SCHEMA = "trcgl.demo/2"
SCANS = 6
STEPS = 9


@dataclass(frozen=True)
class DemoSize:
    """How much is drawn and learned; the defaults take minutes on two cores."""

    train_images: int = 1600
    """Training phantoms."""
    positives_per_finding: int = 25
    """Fewest in val and in test."""
    pixels: int = 64
    """Side of every image."""
    epochs: int = 5
    """Of each classifier."""
    generator_steps: int = 360
    """Optimizer steps of the generator's network."""
    context_steps: int = 40
    """Optimizer steps of its context tokens."""
    drawn: int = 24
    """Images for each tail finding; as many normal and head images beside them."""
    targets: tuple[str, ...] = ()
    """What is drawn; the tail where empty."""
    auditor_images: int = 1200
    """Training phantoms of the classifier that audits; they hold more of the tail, so that it knows it well."""


FOLDERS = ("phantom", "real", "generator", "drawn", "others", "auditor", "audit", "with-drawn", "scans")
"""What the tour makes, in `--out`."""


def demo(out: Path, size: DemoSize | None = None) -> dict[str, Any]:
    """From phantoms to the answer whether drawn images helped, and a page that tells it.

    Args:
        out: a folder for everything; the same call again goes on where it stopped.
        size: how much is drawn and learned.

    Returns:
        The commands, the page, test means of both runs and their difference, the audit's verdicts, seconds, and the
        `tour` in words.

    Raises:
        DataError: the folder cannot be written to.
        RecipeError: the folder holds something else.
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
    telling = _Telling(_commands(out, at, size))
    prepared = PrepareOptions(size=size.pixels)
    plain = phantom.Options(positives_per_finding=size.positives_per_finding, size=size.pixels, boxes=False)

    telling.next("draw radiographs whose findings are known, and look at the long tail")
    phantoms = prepare("phantom", None, at["phantom"], prepared, replace(plain, train_images=size.train_images))
    described = describe(at["phantom"])

    telling.next("train a classifier on them; the best epoch is chosen on val")
    train(at["phantom"], classifier, at["real"])

    telling.next("train a diffusion model that draws a radiograph of any finding it is asked for")
    train_generator(at["phantom"], generator, at["generator"])

    telling.next("draw the tail; the classifier screens what is drawn")
    how = SynthesizeOptions(targets=size.targets, each=size.drawn, precision="bf16", devices=1)
    drawn = synthesize(at["generator"], at["phantom"], at["real"], at["drawn"], how)

    telling.next("train another classifier, on phantoms of other patients, to audit with")
    others = replace(plain, train_images=size.auditor_images, imbalance=4.0, seed=1)
    prepare("phantom", None, at["others"], prepared, others)
    train(at["others"], classifier, at["auditor"])
    evaluate_run(at["auditor"], split="val")

    telling.next("ask whether a drawn image shows what it was asked for, and whether it is a copy")
    few = AuditOptions(each=size.drawn, sweep_each=0, handwritten_each=0)
    audited = audit(at["drawn"], at["phantom"], at["auditor"], at["generator"], at["audit"], few)

    telling.next("train on real and drawn images together, for as many steps")
    train(at["phantom"], classifier, at["with-drawn"], at["drawn"])

    telling.next("judge both on test, with intervals over patients, and compare them")
    judged = {
        name: evaluate_run(run_folder) for name, run_folder in (("real", at["real"]), ("drawn", at["with-drawn"]))
    }
    compared = compare([at["real"], at["with-drawn"]])

    telling.next("score a folder of files")
    _draw_scans(at["scans"], at["phantom"])
    table = out / "scores.csv"
    storage.write_text(table, as_text(predict(at["real"], [at["scans"]]), "csv"))

    told: dict[str, Any] = {
        "schema": SCHEMA,
        "commands": telling.commands,
        "report": str(out / "report.html"),
        "images": phantoms["counts"]["images"],
        "drawn": drawn["counts"],
        "test": {
            name: {one: judgment["overall"][one] for one in ("mAP", "mAUC")}
            | {group: means["mAP"] for group, means in judgment["groups"].items()}
            for name, judgment in judged.items()
        },
        "tail": compared["comparisons"][0]["groups"]["tail"]["mAP"],
        "audit": {finding: one["verdict"]["word"] for finding, one in audited["findings"].items()},
        "phantom": "These images are drawn, not taken of patients. Nothing here is clinical evidence.",
    }
    told["answer"] = write_page(out, told, described, drawn, audited, compared)
    told["seconds"] = round(time.monotonic() - started, 1)
    return told | {"tour": _tour(told, table)}


def _classifier(size: DemoSize) -> "Recipe":
    recipe = RECIPES["phantom"]()
    return replace(
        recipe,
        model=replace(recipe.model, image_size=size.pixels),
        train=replace(recipe.train, epochs=size.epochs, devices=1),
    )


def _generator(size: DemoSize) -> "GeneratorRecipe":
    recipe = GENERATORS["generator_phantom"]()
    fit = replace(recipe.fit, steps=size.generator_steps, context_steps=size.context_steps, grid_every=0, devices=1)
    return replace(recipe, image_size=size.pixels, fit=fit)


def _commands(out: Path, at: dict[str, Path], size: DemoSize) -> list[list[str]]:
    """What to type, step by step."""
    phantom, real, generator, drawn, others, auditor, audit, with_synthetic, scans = (
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
            f"trcgl synthesize {generator} --dataset {phantom} --screener {real} --out {drawn} "
            f"--each {size.drawn} --precision bf16 --devices 1{targets}"
        ],
        [
            f"trcgl prepare phantom --out {others} {phantoms} --source.train-images {size.auditor_images} "
            "--source.imbalance 4 --source.seed 1",
            f"trcgl train {others} --recipe phantom --out {auditor} {settings}",
            f"trcgl evaluate {auditor} --split val",
        ],
        [
            f"trcgl audit {drawn} --dataset {phantom} --auditor {auditor} --generator {generator} "
            f"--out {audit} --each {size.drawn} --sweep-each 0 --handwritten-each 0"
        ],
        [f"trcgl train {phantom} --recipe phantom --out {with_synthetic} --synthetic {drawn} {settings}"],
        [
            f"trcgl evaluate {real}",
            f"trcgl evaluate {with_synthetic}",
            f"trcgl compare {real} {with_synthetic}",
        ],
        [f"trcgl predict {real} {scans} > {shlex.quote(str(out / 'scores.csv'))}"],
    ]


class _Telling:
    """Says on stderr which step begins, and which commands do the same."""

    def __init__(self, steps: list[list[str]]) -> None:
        assert len(steps) == STEPS
        self.commands = [command for step in steps for command in step]
        self._steps = enumerate(steps, 1)

    def next(self, what: str) -> None:
        number, commands = next(self._steps)
        lines = [f"\n[{number}/{STEPS}] {what}", *(f"    $ {command}" for command in commands)]
        print("\n".join(lines), file=sys.stderr, flush=True)


def _draw_scans(folder: Path, data: Path) -> None:
    """A few radiographs of the test split as PNG files, as a user would have them."""
    from PIL import Image

    from trcgl.dataset.sources.phantom import options_of, render_again
    from trcgl.dataset.store import open_dataset

    test = open_dataset(data).split("test")
    options = options_of(data)
    try:
        folder.mkdir(exist_ok=True)
        for image_id in test["image_id"].head(SCANS):
            Image.fromarray(render_again(image_id, options).pixels).save(folder / f"{image_id}.png")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written to ({error.strerror or error}). Choose another --out.") from error


def _tour(told: dict[str, Any], table: Path) -> str:
    scores = pl.read_csv(table)
    findings = [name.removeprefix("score/") for name in scores.columns if name.startswith("score/")]
    best = [max(findings, key=lambda one: row[f"score/{one}"]) for row in scores.iter_rows(named=True)]
    names = {"mAP": "mAP", "mAUC": "mAUC", "head": "head mAP", "medium": "medium mAP", "tail": "tail mAP"}
    verdicts = ", ".join(f"{finding}: {word}" for finding, word in told["audit"].items())
    lines = [
        "",
        f"Done in {told['seconds']:.0f} s: {told['images']:,} phantoms, and {told['drawn']['kept']:,} of "
        f"{told['drawn']['generated']:,} images that a diffusion model drew and a classifier kept.",
        "",
        f"On the test split (95 % interval over patients){'':<6}{'real alone':<26}real and drawn",
        *(
            f"  {title:<12}{'':<40}{_figure(told['test']['real'][name]):<26}{_figure(told['test']['drawn'][name])}"
            for name, title in names.items()
        ),
        "",
        told["answer"],
        f"The audit: {verdicts}.",
        "",
        f"  {told['report']:<32} all of it: open it in a browser",
        f"  {os.fspath(table):<32} scores of {scores.height} files; the likeliest finding of the first: {best[0]}",
        "",
        "The same by hand:",
        *(f"  {command}" for command in told["commands"]),
        "",
        f"{told['phantom']} {RESEARCH_USE}",
        "Your own radiographs: trcgl prepare table --help",
    ]
    return "\n".join(lines)


def _figure(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return metric["why"]
    return f"{metric['value']:.3f}" + (" [{:.3f}, {:.3f}]".format(*metric["ci"]) if metric["ci"] else "")
