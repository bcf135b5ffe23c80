"""`trcgl study KIND DATASET`: controlled experiments."""

from pathlib import Path
from typing import Annotated, Any, Literal

from trcgl.cli.verb import Chosen, Command, Done, Verb, chosen_recipe
from trcgl.core.errors import RecipeError
from trcgl.core.registry import unknown

KINDS = {
    "peers": "Compare long-tail methods over the same data, steps, augmentation and selection rule.",
    "ablation": "Take a recipe apart: a ladder from plain to full, and each part left out in turn.",
    "utility": "Ask whether drawn images help more than as many copies of real ones.",
}
EXAMPLE = "trcgl study peers phantom --recipe phantom --arms trcgl linear asl --out study"
EXAMPLES = {
    "peers": EXAMPLE,
    "ablation": "trcgl study ablation phantom --recipe phantom --out ablation",
    "utility": "trcgl study utility phantom --synthetic drawn --recipe phantom --out utility",
}


def study(arguments: list[str]) -> Chosen:
    """The command of `trcgl study`, whose flags depend on its kind and recipe."""
    import tyro

    from trcgl.core.recipe import Recipe
    from trcgl.recipes import RECIPES

    if arguments and arguments[0] in ("-h", "--help"):
        print(f"Example: {EXAMPLE}\n\nusage: trcgl study KIND DATASET --out STUDY [OPTIONS]\n")
        print("Train several arms on several seeds and compare them on test. `trcgl study KIND --help` shows more.\n")
        print("\n".join(f"  {name:<10} {what}" for name, what in KINDS.items()))
        raise SystemExit(0)
    if not arguments:
        raise RecipeError(f"name the kind first: trcgl study KIND DATASET; there are {', '.join(KINDS)}.")
    if arguments[0] not in KINDS:
        raise RecipeError(unknown("kind", arguments[0], KINDS))
    kind, rest = arguments[0], arguments[1:]
    name, base, about, _ = chosen_recipe(rest, "trcgl", RECIPES, Recipe)
    settings_of = Annotated[Recipe, tyro.conf.arg(name="")]
    shared = f"""
        dataset: A dataset folder with images and a test split.
        out: The study folder to write; the same command again goes on, also in several processes at once.
        recipe: What all arms share: one of {", ".join(RECIPES)}, or the path of a recipe.json.
        seeds: Runs of each arm."""
    drawn = """
        synthetic: A folder drawn for this dataset, for the arms that train with drawn images."""

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

        told = stage.peers(
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
        return _done(told, out)

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
        told = stage(
            dataset,
            settings,
            out,
            synthetic=synthetic,
            doses=doses,
            schedules=schedules,
            seeds=seeds,
            choosing_seeds=choosing_seeds,
            generator=generator,
            prompts={name: folder for name, folder in folders.items() if folder},
        )
        return _done(told, out)

    from trcgl.study.peers import PEERS

    peers.__doc__ = f"""{KINDS["peers"]}

    The base recipe is {name}; every setting is overridden by its path.

    Args:{shared}{drawn}
        arms: What to compare: {", ".join(PEERS)}. All, where none is named.
        over: What heads and backbones stand on: cross-entropy and every row once an epoch (plain), or loss and sampler
            of the base recipe (base), so that networks alone are compared.
        baseline: The arm that the others are compared with.
        primary: The arm of the one contrast that is not adjusted for the number of contrasts. By default that of a
            study that is there already, else linear.
    """
    ablation.__doc__ = f"""{KINDS["ablation"]}

    The full recipe is {name}; every setting is overridden by its path.

    {about}

    Args:{shared}{drawn}
    """
    utility.__doc__ = f"""{KINDS["utility"]}

    The base recipe is {name}; every setting is overridden by its path.

    Args:{shared}
        synthetic: A folder drawn for this dataset.
        doses: Kept images drawn for a finding ÷ its real training images; val chooses one.
        schedules: mix: drawn images among real ones. pretrain: drawn images first. Val chooses one.
        choosing_seeds: Further runs of each dose and schedule, by which val chooses; they are not compared.
        generator: That drew the images, for the round trip through its autoencoder; where it was when it drew, by
            default.
        handwritten: A folder drawn by words alone: `trcgl synthesize --prompt handwritten`.
        shared_tokens: A folder drawn by words and the shared context tokens: `--prompt shared_tokens`.
        per_finding_tokens: A folder drawn by words and the tokens of each finding: `--prompt per_finding_tokens`.
    """
    commands: dict[str, Command] = {"peers": peers, "ablation": ablation, "utility": utility}
    return commands[kind], rest, EXAMPLES[kind]


def _done(told: dict[str, Any], out: Path) -> Done:
    from trcgl.study.tables import markdown

    return Done(told, f"{markdown(told)}\ntable: {out / 'table.md'}\npage: {out / 'study.html'}")


VERB = Verb(
    "Train several arms on several seeds, and say what may be said about their differences.",
    EXAMPLE,
    study,
)
