"""`trcgl demo`: the guided tour, on drawn phantoms, on a laptop CPU, in minutes.

Every step is what the printed command does, so a reader can go on from any of them.
"""

import dataclasses
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core.errors import DataError
from trcgl.core.run import write_text
from trcgl.recipes import RECIPES

SCHEMA = "trcgl.demo/1"
SCANS = 6


@dataclass(frozen=True)
class DemoSize:
    """How much is drawn and learned; the defaults take minutes on two cores."""

    train_images: int = 3000
    positives_per_finding: int = 30
    pixels: int = 96
    epochs: int = 5


def demo(out: Path, size: DemoSize | None = None) -> dict[str, Any]:
    """Prepare, describe, train, evaluate and predict.

    Args:
        out: a folder for everything; the same call again goes on where it stopped.
        size: how much is drawn and learned.

    Returns:
        The commands, the report, test means, seconds, and the `tour` in words.

    Raises:
        DataError: the folder cannot be written to.
        RecipeError: the folder holds something else.
    """
    from trcgl.data.describe import describe
    from trcgl.data.prepare import PrepareOptions, prepare
    from trcgl.data.sources import phantom
    from trcgl.model.evaluate import evaluate_run
    from trcgl.model.train import train
    from trcgl.use.predict import as_text, predict

    out, size, started = Path(out), size or DemoSize(), time.monotonic()
    data, run, scans, table = out / "phantom", out / "run", out / "scans", out / "scores.csv"
    recipe = RECIPES["phantom"]()
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, image_size=size.pixels),
        train=dataclasses.replace(recipe.train, epochs=size.epochs),
    )
    options = phantom.Options(
        train_images=size.train_images, positives_per_finding=size.positives_per_finding, size=size.pixels, boxes=False
    )
    commands = [
        f"trcgl prepare phantom --out {data} --size {size.pixels} --source.size {size.pixels} "
        f"--source.train-images {size.train_images} --source.positives-per-finding {size.positives_per_finding} "
        "--source.no-boxes",
        f"trcgl describe {data}",
        f"trcgl train {data} --recipe phantom --out {run} "
        f"--model.image-size {size.pixels} --train.epochs {size.epochs}",
        f"trcgl evaluate {run}",
        f"trcgl predict {run} {scans} > {table}",
    ]
    _say(1, "draw radiographs whose findings are known, and put them away as a dataset", commands[0])
    prepared = prepare("phantom", None, data, PrepareOptions(size=size.pixels), options)
    _say(2, "look at the long tail", commands[1])
    described = describe(data)
    _say(3, "train a classifier; the best epoch is chosen on val", commands[2])
    train(data, recipe, run)
    _say(4, "judge it on test, once, with intervals over patients", commands[3])
    judged = evaluate_run(run)
    _say(5, "score a folder of files", commands[4])
    _draw_scans(scans, data)
    write_text(table, as_text(predict(run, [scans]), "csv"))
    told = {
        "schema": SCHEMA,
        "commands": commands,
        "report": str(run / "report.html"),
        "images": prepared["counts"]["images"],
        "test": {name: judged["overall"][name] for name in ("mAP", "mAUC")}
        | {group: means["mAP"] for group, means in judged["groups"].items()},
        "seconds": round(time.monotonic() - started, 1),
        "phantom": "These images are drawn, not taken of patients. Nothing here is clinical evidence.",
    }
    return told | {"tour": _tour(told, described["page"], table)}


def _draw_scans(folder: Path, data: Path) -> None:
    """A few radiographs of the test split as PNG files, as a user would have them."""
    from PIL import Image

    from trcgl.data.sources.phantom import options_of, redraw
    from trcgl.data.store import open_dataset

    test = open_dataset(data).split("test")
    options = options_of(data)
    try:
        folder.mkdir(exist_ok=True)
        for image_id in test["image_id"].head(SCANS):
            Image.fromarray(redraw(image_id, options).pixels).save(folder / f"{image_id}.png")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written to ({error.strerror or error}). Choose another --out.") from error


def _say(step: int, what: str, command: str) -> None:
    print(f"\n[{step}/5] {what}\n    $ {command}", file=sys.stderr, flush=True)


def _tour(told: dict[str, Any], page: str, table: Path) -> str:
    scores = pl.read_csv(table)
    findings = [name.removeprefix("score/") for name in scores.columns if name.startswith("score/")]
    best = [max(findings, key=lambda one: row[f"score/{one}"]) for row in scores.iter_rows(named=True)]
    lines = [
        "",
        f"Done in {told['seconds']:.0f} s: {told['images']:,} phantoms, drawn, learned and judged.",
        "",
        "On the test split (95 % interval over patients):",
        *(f"  {name:<12} {_figure(metric)}" for name, metric in _named(told["test"])),
        "",
        f"  {told['report']:<32} the evidence: open it in a browser",
        f"  {page:<32} the long tail",
        f"  {os.fspath(table):<32} scores of {scores.height} files; the likeliest finding of the first: {best[0]}",
        "",
        "The same by hand:",
        *(f"  {command}" for command in told["commands"]),
        "",
        f"{told['phantom']} Research use only. Not a medical device.",
        "Your own radiographs: trcgl prepare table --help",
    ]
    return "\n".join(lines)


def _named(test: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    titles = {"mAP": "mAP", "mAUC": "mAUC", "head": "head mAP", "medium": "medium mAP", "tail": "tail mAP"}
    return [(titles[name], metric) for name, metric in test.items()]


def _figure(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return metric["why"]
    return f"{metric['value']:.3f}" + (" [{:.3f}, {:.3f}]".format(*metric["ci"]) if metric["ci"] else "")
