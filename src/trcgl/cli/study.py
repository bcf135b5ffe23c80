"""`trcgl study KIND DATASET`: controlled experiments."""

from pathlib import Path
from typing import Annotated, Any, Literal

from trcgl.cli.verb import Chosen, Command, Done, Verb, chosen_recipe
from trcgl.core.errors import RecipeError
from trcgl.core.registry import unknown

KINDS = {
    "peers": "Compare long-tail methods over the same data, steps, augmentation and selection rule.",
    "ablation": "Take a recipe apart: add its parts one by one, then leave out each part in turn.",
    "utility": "Compare synthetic images with as many duplicates of real images.",
}
EXAMPLE = "trcgl study peers phantom --recipe phantom --arms trcgl linear asl --out study"
EXAMPLES = {
    "peers": EXAMPLE,
    "ablation": "trcgl study ablation phantom --recipe phantom --out ablation",
    "utility": "trcgl study utility phantom --synthetic synthetic --recipe phantom --out utility",
}


def study(arguments: list[str]) -> Chosen:
    """The command of `trcgl study`; its options depend on kind and recipe."""
    import tyro

    from trcgl.core.recipe import Recipe
    from trcgl.recipes import RECIPES

    if arguments and arguments[0] in ("-h", "--help"):
        print(f"Example: {EXAMPLE}\n\nusage: trcgl study KIND DATASET --out STUDY [OPTIONS]\n")
        print("Train several methods with several seeds and compare them on test. `KIND --help` shows all options.\n")
        print("\n".join(f"  {kind:<10} {description}" for kind, description in KINDS.items()))
        raise SystemExit(0)
    if not arguments:
        raise RecipeError(f"name the kind first: trcgl study KIND DATASET; there are {', '.join(KINDS)}.")
    if arguments[0] not in KINDS:
        raise RecipeError(unknown("kind", arguments[0], KINDS))
    kind, rest = arguments[0], arguments[1:]
    name, base, about, _ = chosen_recipe(rest, "trcgl", RECIPES, Recipe)
    settings_of = Annotated[Recipe, tyro.conf.arg(name="")]
    shared = f"""
        dataset: Dataset folder with images and a test split.
        out: Study folder to write. The same command resumes it; several processes can share it.
        recipe: Recipe that all arms share: {", ".join(RECIPES)}, or the path of a recipe.json.
        seeds: Training runs of each arm."""
    with_synthetic = """
        synthetic: Synthetic folder of this dataset, for the arms that train with synthetic images."""

    def peers(
        dataset: Path,
        /,
        *,
        out: Path,
        recipe: str = name,
        arms: tuple[str, ...] = (),
        over: Literal["plain", "base"] = "plain",
        seeds: int = 3,
        baseline: str = "trcgl",
        primary: str | None = None,
        synthetic: Path | None = None,
        settings: settings_of = base,
    ) -> Done:
        from trcgl.study import study as stage

        table = stage.peers(
            dataset,
            settings,
            out,
            arms=arms,
            over=over,
            seeds=seeds,
            baseline=baseline,
            primary=primary,
            synthetic=synthetic,
        )
        return _done(table, out)

    def ablation(
        dataset: Path,
        /,
        *,
        out: Path,
        recipe: str = name,
        seeds: int = 3,
        synthetic: Path | None = None,
        settings: settings_of = base,
    ) -> Done:
        from trcgl.study import study as stage

        return _done(stage.ablate(dataset, settings, out, seeds=seeds, synthetic=synthetic), out)

    def utility(
        dataset: Path,
        /,
        *,
        synthetic: Path,
        out: Path,
        recipe: str = name,
        doses: tuple[float, ...] = (0.25, 1.0, 4.0),
        schedules: tuple[Literal["mix", "pretrain"], ...] = ("mix", "pretrain"),
        seeds: int = 3,
        choosing_seeds: int = 1,
        generator: Path | None = None,
        handwritten: Path | None = None,
        shared_tokens: Path | None = None,
        per_finding_tokens: Path | None = None,
        settings: settings_of = base,
    ) -> Done:
        from trcgl.study.utility import utility as stage

        folders = {
            "handwritten": handwritten,
            "shared_tokens": shared_tokens,
            "per_finding_tokens": per_finding_tokens,
        }
        table = stage(
            dataset,
            settings,
            out,
            synthetic=synthetic,
            doses=doses,
            schedules=schedules,
            seeds=seeds,
            choosing_seeds=choosing_seeds,
            generator=generator,
            prompts={prompt: folder for prompt, folder in folders.items() if folder},
        )
        return _done(table, out)

    from trcgl.study.peers import PEERS

    peers.__doc__ = f"""{KINDS["peers"]}

    The base recipe is {name}. Every setting can be overridden by its path.

    Args:{shared}{with_synthetic}
        arms: Arms to compare: {", ".join(PEERS)}. Default: all.
        over: Train heads and backbones with cross-entropy and every row once an epoch (plain), or with the loss and row
            sampling of the base recipe (base), which compares networks only.
        baseline: Arm that the others are compared with.
        primary: Arm of the one contrast that is not adjusted for the number of contrasts. Default: that of the existing
            study, else linear.
    """
    ablation.__doc__ = f"""{KINDS["ablation"]}

    The full recipe is {name}. Every setting can be overridden by its path.

    {about}

    Args:{shared}{with_synthetic}
    """
    utility.__doc__ = f"""{KINDS["utility"]}

    The base recipe is {name}. Every setting can be overridden by its path.

    Args:{shared}
        synthetic: Synthetic folder of this dataset.
        doses: Synthetic images per real training image of the finding, one or more values; val chooses one.
        schedules: Show synthetic images among real ones (mix) or before them (pretrain); val chooses one.
        choosing_seeds: Further runs of each dose and schedule, by which val chooses; they are not compared.
        generator: Generator folder, for the round trip through its autoencoder; default: the path recorded in the
            synthetic folder.
        handwritten: Synthetic folder generated from text only: `trcgl synthesize --prompt handwritten`.
        shared_tokens: Synthetic folder generated with shared context tokens: `--prompt shared_tokens`.
        per_finding_tokens: Synthetic folder generated with the tokens of each finding: `--prompt per_finding_tokens`.
    """
    commands: dict[str, Command] = {"peers": peers, "ablation": ablation, "utility": utility}
    return commands[kind], rest, EXAMPLES[kind]


def _done(table: dict[str, Any], out: Path) -> Done:
    from trcgl.study.tables import markdown

    return Done(table, f"{markdown(table)}\ntable: {out / 'table.md'}\npage: {out / 'study.html'}")


VERB = Verb(
    "Train several methods with several seeds and compare them on test.",
    EXAMPLE,
    study,
)
