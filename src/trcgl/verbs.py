"""What each verb of the command line does: flags in, a result and its words out.

A stage is imported only when its verb runs, so that `trcgl --help` is there at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from trcgl import drawn_verbs, explain_verb, export_verb, predict_verb, serve_verb, study_verbs
from trcgl.core.errors import RecipeError
from trcgl.verb import Chosen, Done, Verb, chosen_recipe, first_line, plain

REASONS = 5
"""Of dropped images and of those set aside, that are printed; the report has all."""


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
        for what, reasons in (("dropped", report["reasons"]), ("set aside", report["set_aside"])):
            lines += [f"{what}, {reason}: {count:,}" for reason, count in list(reasons.items())[:REASONS]]
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


def _evaluate(
    run: Path,
    /,
    *,
    split: Literal["test", "val"] = "test",
    dataset: Path | None = None,
    localization: bool = True,
) -> Done:
    """Judge a finished run, with patient-level intervals and a report.

    Args:
        run: A finished run folder.
        split: The split to judge. Choose between recipes on val; open test once.
        dataset: Another dataset folder: external validation on the findings that both have.
        localization: Also judge where the model looks, on the images that have boxes.
    """
    from trcgl.core.run import read_json
    from trcgl.model.evaluate import evaluate_run

    told = evaluate_run(run, split=split, dataset=dataset, localization=localization)
    name = split if dataset is None else f"{read_json(dataset / 'dataset.json')['name']}-{split}"
    page = run / ("report.html" if name == "test" else f"report-{name}.html")
    rows = [("", "findings", "mAP [95 %]", "mAUC [95 %]")]
    for group, means in (("overall", told["overall"]), *told["groups"].items()):
        rows.append((group, str(means["mAP"]["findings"]), _figure(means["mAP"]), _figure(means["mAUC"])))
    title = f"{name}: {told['images']:,} images of {told['patients']:,} patients"
    return Done(told, "\n".join([title, *_aligned(rows), *_located(told.get("localization")), f"report: {page}"]))


def _located(told: dict[str, Any] | None) -> list[str]:
    """Where the model looked, in means over findings, beside the nulls."""
    if told is None:
        return []
    names = {
        "pointing": "pointing [95 %]",
        "energy": f"energy in {told['regions']} [95 %]",
        "IoU@0.5": "IoU at half [95 %]",
    }
    rows = [("", *names.values())]
    for kind in told["kinds"]:
        of_kind = told["overall"][kind]
        rows.append((kind.replace("_", " "), *(_figure(of_kind[metric]) for metric in names)))
        for null in of_kind["pointing"]["against"]:
            values = [f"{of_kind[metric]['against'][null]['value']:.4f}" for metric in names]
            rows.append((f"  null: {null.replace('_', ' ')}", *values))
    title = f"localization: {told['images']:,} images of {told['patients']:,} patients with {told['regions']}"
    return [f"{title}, means over {len(told['findings'])} findings", *_aligned(rows)]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


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


def _demo(*, out: Path = Path("trcgl-demo")) -> Done:
    """Everything on drawn phantoms, on a laptop CPU, in minutes.

    Args:
        out: Folder for everything that the demo makes.
    """
    from trcgl.demo import demo

    told = demo(out)
    return Done(told, told["tour"])


def _doctor(*, folder: Path = Path()) -> Done:
    """What this machine has, what it lacks, and what to do about it.

    Args:
        folder: Where datasets and runs are to go: the free space of its disk is told.
    """
    from trcgl.use.doctor import doctor, in_words

    told = doctor(folder)
    return Done(told, in_words(told))


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
        "Calibrated scores for files, folders and tables of paths.",
        predict_verb.EXAMPLE,
        predict_verb.predict,
    ),
    "explain": Verb(
        "Where the model looked: overlays for files and folders, or a gallery of a judged split.",
        explain_verb.EXAMPLE,
        plain(explain_verb.explain),
    ),
    "export": Verb(
        "A model folder that stands on its own: weights, ONNX, model card.",
        "trcgl export run --out model",
        plain(export_verb.export),
    ),
    "serve": Verb(
        "A page and an HTTP interface for one model, on this machine.",
        serve_verb.EXAMPLE,
        serve_verb.serve,
    ),
    "doctor": Verb(
        "What this machine has, what it lacks, and what to do about it.",
        "trcgl doctor --folder /data",
        plain(_doctor),
    ),
}
"""Name to verb, in the order of the work."""
