"""What each verb of the command line does: flags in, a result and its words out.

A stage is imported only when its verb runs, so that `trcgl --help` is there at once.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from trcgl import drawn_verbs, export_verb, study_verbs
from trcgl.core.errors import DataError, RecipeError
from trcgl.verb import Chosen, Done, Verb, chosen_recipe, first_line, plain

NOTICE = "Research use only. Not a medical device."


def _prepare(arguments: list[str]) -> Chosen:
    import importlib

    import tyro

    from trcgl.data.prepare import PrepareOptions, prepare
    from trcgl.data.sources import SOURCES

    known = ", ".join(SOURCES)
    if arguments and arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<14} {first_line(importlib.import_module(module))}" for name, module in SOURCES.items()]
        print(
            f"Example: {VERBS['prepare'].example}\n\nusage: trcgl prepare SOURCE --root DIR --out DATASET [OPTIONS]\n"
        )
        print(f"{VERBS['prepare'].what} `trcgl prepare SOURCE --help` shows its settings.\n")
        print("\n".join(lines))
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise RecipeError(f"name the source first: trcgl prepare SOURCE ...; there are {known}.")
    source = arguments[0]
    if source not in SOURCES:
        raise RecipeError(f"unknown source {source!r}; there are {known}.")
    module = importlib.import_module(SOURCES[source])
    shared = Annotated[PrepareOptions, tyro.conf.arg(name="")]
    special = Annotated[module.Options, tyro.conf.arg(name="source")]
    own_size = {"size": module.Options().size} if source == "phantom" else {}  # drawn, so never enlarged unasked

    def command(
        *,
        out: Path,
        root: Path | None = None,
        options: shared = PrepareOptions(**own_size),  # noqa: B008
        source_options: special = module.Options(),  # noqa: B008
    ) -> Done:
        if root is None and source != "phantom":
            raise RecipeError(f"--root is missing: the folder of the {source} archive.")
        report = prepare(source, root, out, options, source_options)
        lines = [f"{name}: {count:,}" for name, count in report["counts"].items()]
        return Done(report, "\n".join([*lines, f"report: {out / 'report.html'}", f"next: trcgl describe {out}"]))

    command.__doc__ = f"""{first_line(module)}

    Args:
        out: The dataset folder to write; new, or an interrupted one of the same settings.
        root: Folder of the archive{" (not needed: phantoms are drawn)" if source == "phantom" else ""}.
    """
    example = next((one.strip() for one in (module.__doc__ or "").splitlines() if "trcgl prepare" in one), None)
    return command, arguments[1:], example or f"trcgl prepare {source} --root {source.upper()} --out {source}"


def _describe(dataset: Path, /, *, out: Path | None = None) -> Done:
    """The long tail of a dataset in numbers and pictures.

    Args:
        dataset: A dataset folder.
        out: Where the page and the figures go; the dataset folder by default.
    """
    from trcgl.data.describe import describe

    told = describe(dataset, out)
    groups = ", ".join(f"{group} {len(findings)}" for group, findings in told["groups"].items())
    lines = [
        f"{told['name']}: {told['images']:,} images of {told['patients']:,} patients",
        f"with any finding: {told['images_with_any_finding']:,} images, {told['findings_per_image']:.2f} on average",
        f"findings: {groups}",
        f"page: {told['page']}",
    ]
    return Done(told, "\n".join(lines))


def _train(arguments: list[str]) -> Chosen:
    import tyro

    from trcgl.core.recipe import Recipe
    from trcgl.recipes import RECIPES

    name, base, about, example = chosen_recipe(arguments, "trcgl", RECIPES, Recipe)
    settings_of = Annotated[Recipe, tyro.conf.arg(name="")]

    def command(
        dataset: Path, /, *, out: Path, recipe: str = name, synthetic: Path | None = None, settings: settings_of = base
    ) -> Done:
        from trcgl.model.train import train

        info = train(dataset, settings, out, synthetic)
        best = info.get("best", {})
        chosen = f"best epoch: {best['epoch']} (val mAP {best['val/mAP']:.4f})\n" if best else ""
        return Done(info, f"{chosen}next: trcgl evaluate {out}")

    command.__doc__ = f"""Train a classifier with the recipe {name}; every setting is overridden by its path.

    {about}

    Args:
        dataset: A dataset folder with images.
        out: The run folder to write; new, or an interrupted one of the same recipe.
        recipe: One of {", ".join(RECIPES)}, or the path of a recipe.json.
        synthetic: A folder drawn for this dataset, whose kept images train beside the real ones.
    """
    return command, arguments, example


def _evaluate(run: Path, /, *, split: Literal["test", "val"] = "test", dataset: Path | None = None) -> Done:
    """Judge a finished run, with patient-level intervals and a report.

    Args:
        run: A finished run folder.
        split: The split to judge. Choose between recipes on val; open test once.
        dataset: Another dataset folder: external validation on the findings that both have.
    """
    from trcgl.core.run import read_json
    from trcgl.model.evaluate import evaluate_run

    told = evaluate_run(run, split=split, dataset=dataset)
    name = split if dataset is None else f"{read_json(dataset / 'dataset.json')['name']}-{split}"
    page = run / ("report.html" if name == "test" else f"report-{name}.html")
    rows = [("", "findings", "mAP [95 %]", "mAUC [95 %]")]
    for group, means in (("overall", told["overall"]), *told["groups"].items()):
        rows.append((group, str(means["mAP"]["findings"]), _figure(means["mAP"]), _figure(means["mAUC"])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    title = f"{name}: {told['images']:,} images of {told['patients']:,} patients"
    return Done(told, "\n".join([title, *table, f"report: {page}"]))


def _figure(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return metric["why"]
    return f"{metric['value']:.4f}" + (" [{:.4f}, {:.4f}]".format(*metric["ci"]) if metric["ci"] else "")


def _compare(runs: tuple[Path, ...], /, *, split: Literal["test", "val"] = "test") -> Done:
    """Paired patient-bootstrap differences between evaluated runs.

    Args:
        runs: Two run folders or more; the first is the reference.
        split: The split whose predictions are compared.
    """
    from trcgl.evaluate.compare import compare, markdown

    told = compare(runs, split)
    return Done(told, markdown(told))


def _predict(
    run: Path,
    paths: tuple[Path, ...],
    /,
    *,
    out: Path | None = None,
    format: Literal["csv", "parquet", "json"] | None = None,
    batch_size: int = 64,
    workers: int = 0,
) -> Done:
    """Calibrated scores for files and folders; unreadable files are listed and the rest is done.

    Args:
        run: A run folder, or a model folder.
        paths: Files (PNG, JPEG, DICOM), and folders that are searched in any depth.
        out: The table to write (.csv, .parquet, .json); without it CSV goes to stdout.
        format: Overrules the ending of --out.
        batch_size: Images that are scored at once.
        workers: Threads that decode; 0 takes one per CPU.
    """
    from trcgl.use.predict import as_text, check_out, predict, write_scores

    if out is None and format == "parquet":
        raise DataError("Parquet cannot be printed. Name a file with --out.")
    if out is not None:
        check_out(out, format)
    scores = predict(run, paths, batch_size=batch_size, workers=workers)
    print(NOTICE, file=sys.stderr)
    if not scores.calibrated:
        print(f"not calibrated, no thresholds: run `trcgl evaluate {run}` first for both.", file=sys.stderr)
    for image, reason in scores.unreadable.iter_rows():
        print(f"unreadable: {image}: {reason}", file=sys.stderr)
    if out is None:
        return Done(scores.to_dict(), as_text(scores, "json" if format == "json" else "csv").rstrip("\n"))
    files = [str(one) for one in write_scores(scores, out, format)]
    told = f"{scores.table.height:,} images scored, {scores.unreadable.height:,} unreadable: {', '.join(files)}"
    return Done(scores.to_dict() | {"files": files}, told)


def _demo(*, out: Path = Path("trcgl-demo")) -> Done:
    """Everything on drawn phantoms, on a laptop CPU, in minutes.

    Args:
        out: Folder for the dataset, the run and the report.
    """
    from trcgl.demo import demo

    told = demo(out)
    return Done(told, told["tour"])


def _doctor() -> Done:
    """What this machine has: torch, GPU, decoders, disk."""
    from trcgl.core.doctor import doctor

    told = doctor()
    lines = [
        f"trcgl {told['trcgl']}, Python {told['python']}, {told['system']}",
        f"CPUs: {told['cpus']}, memory: {told['memory_gib']} GiB, free disk: {told['disk_free_gib']} GiB",
        "GPUs: " + (", ".join(f"{one['name']} ({one['memory_gib']} GiB)" for one in told["gpus"]) or "none"),
        "packages: " + ", ".join(f"{name} {version}" for name, version in told["packages"].items()),
        "reads: " + ", ".join(name for name, there in told["decoders"].items() if there),
        *told["advice"],
    ]
    return Done(told, "\n".join(lines))


VERBS: dict[str, Verb] = {
    "demo": Verb(
        "Everything below on drawn phantoms, on a laptop CPU, in minutes.",
        "trcgl demo --out trcgl-demo",
        plain(_demo),
    ),
    "prepare": Verb(
        "Turn an archive's label table and radiographs into a dataset folder.",
        "trcgl prepare nih --root NIH --out nih",
        _prepare,
    ),
    "describe": Verb(
        "The long tail of a dataset in numbers and pictures.",
        "trcgl describe nih",
        plain(_describe),
    ),
    "train": Verb(
        "Train a classifier into a run folder.",
        "trcgl train nih --recipe nih_mini --model.weights efficientnet_lite0_imagenet.safetensors --out run",
        _train,
    ),
    "train-generator": Verb(
        "Train a diffusion model that draws radiographs of the findings it is asked for.",
        "trcgl train-generator phantom --recipe generator_phantom --out generator",
        drawn_verbs.train_generator,
    ),
    "synthesize": Verb(
        "Draw radiographs of rare findings with a generator, and screen them.",
        "trcgl synthesize generator --dataset phantom --screener run --out synthetic",
        drawn_verbs.synthesize,
    ),
    "audit": Verb(
        "Ask whether drawn radiographs show what they claim, and whether they are copies.",
        "trcgl audit synthetic --dataset phantom --auditor auditor",
        drawn_verbs.audit,
    ),
    "evaluate": Verb(
        "Judge a finished run, with patient-level intervals and a report.",
        "trcgl evaluate run",
        plain(_evaluate),
    ),
    "compare": Verb(
        "Paired patient-bootstrap differences between evaluated runs.",
        "trcgl compare baseline run",
        plain(_compare),
    ),
    "study": Verb(
        "Train several arms on several seeds, and say what may be said about their differences.",
        study_verbs.EXAMPLE,
        study_verbs.study,
    ),
    "predict": Verb(
        "Calibrated scores for files and folders.",
        "trcgl predict run scans/ --out scores.csv",
        plain(_predict),
    ),
    "export": Verb(
        "A model folder that stands on its own: weights, ONNX, model card.",
        "trcgl export run --out model",
        plain(export_verb.export),
    ),
    "doctor": Verb(
        "What this machine has: torch, GPU, decoders, disk.",
        "trcgl doctor",
        plain(_doctor),
    ),
}
"""Name to verb, in the order of the work."""
